/**
 * Which daemons tickets may name: `[proxy] allowed_daemons`. `*.example.com` is any host below
 * example.com, on the daemon's port; `host:1234` names another port, `host:*` any; IPv6 addresses are
 * in brackets. Names are compared as the ticket writes them, in the one spelling that URLs have: what a
 * name resolves to is not asked, as the certificate has to fit the name anyway.
 *
 * A pattern of digits, dots and stars is of addresses: anybody can have a name that begins like one, and a
 * certificate for it.
 */
import { isIPv4, isIPv6 } from 'node:net'

export interface Place {
  readonly host: string
  readonly port: number
}

export interface Pattern {
  readonly host: RegExp
  /** No name fits, however it looks. */
  readonly isForAddresses: boolean
  /** Undefined is any. */
  readonly port: number | undefined
}

const DAEMON_PORT = 54322
const MAX_PORT = 65535
const ADDRESSES = /^[\d.*]*\d[\d.*]*$/
const PATTERN = /^(\[[\da-f:.]+\]|[\w.*-]+)(?::(\d{1,5}|\*))?$/i

export function splitPatterns(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '')
}

/** Of a text whose words are patterns, as the configuration has checked. */
export function parsePatterns(text: string): Pattern[] {
  return splitPatterns(text).flatMap((word) => parsePattern(word) ?? [])
}

export function isAllowed({ host, port }: Place, patterns: readonly Pattern[]): boolean {
  const isAddress = isIPv4(host) || isIPv6(host)
  return patterns.some(
    (pattern) =>
      pattern.host.test(host) &&
      (isAddress || !pattern.isForAddresses) &&
      (pattern.port === undefined || pattern.port === port),
  )
}

/** Undefined when it is none. */
export function parsePattern(word: string): Pattern | undefined {
  const [, name, port = String(DAEMON_PORT)] = PATTERN.exec(word) ?? []
  if (name === undefined || (port !== '*' && Number(port) > MAX_PORT)) return undefined
  const isLiteral = name.startsWith('[')
  const host = isLiteral ? normalized(name) : name
  if (host === undefined) return undefined
  return {
    host: hostPattern(host),
    isForAddresses: isLiteral || ADDRESSES.test(name),
    port: port === '*' ? undefined : Number(port),
  }
}

/** One address has many spellings; URLs have one. Undefined when it is none. */
function normalized(literal: string): string | undefined {
  return URL.parse(`http://${literal}/`)?.hostname.slice(1, -1)
}

/** A star is any text: it also spans dots. */
function hostPattern(name: string): RegExp {
  const parts = name.split('*').map((part) => part.replace(/[.[\]]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 'i')
}
