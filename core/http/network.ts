/** Whose an address is, as far as that can be told from it. */
import { isIPv6 } from 'node:net'

const MAPPED = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i

/** An IPv4 address, also as IPv6 has it; of IPv6 the /64 network, as one customer has 2^64 addresses. */
export function networkOf(address: string): string {
  const plain = address.replace(MAPPED, '')
  if (!isIPv6(plain) || plain.includes('.')) return plain
  const [left = '', right] = plain.replace(/%.*$/, '').split('::')
  const head = groups(left)
  const tail = groups(right ?? '')
  const zeroes = right === undefined ? 0 : 8 - head.length - tail.length
  const all = [...head, ...Array<string>(zeroes).fill('0'), ...tail]
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}

function groups(text: string): string[] {
  return text === '' ? [] : text.split(':')
}
