/**
 * A client that takes HTTP/2 alone. curl offers HTTP/1.1 as well, which the daemon prefers; h2load of nghttp2
 * speaks either, and so the same client is on both sides.
 */
import type { Command } from './command.js'
import type { Direction } from './system.js'

/** One transfer; `local` is what is uploaded. A download is thrown away. */
export function h2load(
  protocol: 'h2' | 'http/1.1',
  direction: Direction,
  url: string,
  local?: string,
): Command {
  const body = local === undefined ? [] : ['-d', local, '-H', ':method: PUT']
  const once = ['-n', '1', '-c', '1', '-m', '1', '-t', '1', '--npn-list', protocol]
  return { program: 'h2load', args: [...once, ...(direction === 'PUT' ? body : []), url] }
}
