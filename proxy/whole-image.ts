/**
 * A checksum is of all that the daemon's ticket has, and cannot be clipped as extents and downloads are: who
 * has less of the image here would learn of the rest whether it is what they think it is.
 */
import type { Exchange } from '../core/http/exchange.js'
import { ChecksumBeyondTicketError } from './errors.js'
import { parseMembers } from './local-socket.js'
import { readAll } from './pump.js'
import { ask, type Relay } from './relay.js'
import { viaOf } from './via.js'

/** Bytes of an OPTIONS answer. */
const MAX_OPTIONS = 64 * 1024

/** Throws ChecksumBeyondTicketError. What else the daemon refuses it will refuse again. */
export async function requireWhole(
  exchange: Exchange,
  relay: Relay,
  signal: AbortSignal,
): Promise<void> {
  const { definition } = relay.ticket
  const told = await toldSize(exchange, relay, signal)
  const isBeyond =
    told === undefined ? await goesOn(exchange, relay, signal) : told > definition.size
  if (isBeyond) throw new ChecksumBeyondTicketError(definition.size)
}

async function toldSize(
  exchange: Exchange,
  { upstream }: Relay,
  signal: AbortSignal,
): Promise<number | undefined> {
  const headers = { via: viaOf(exchange) }
  const question = { method: 'OPTIONS', headers, isRepeatable: true }
  const { status, body } = await ask(upstream, question, signal)
  try {
    if (status !== 200) return undefined
    const size = parseMembers(await readAll(body, MAX_OPTIONS)).get('size')
    return typeof size === 'number' ? size : undefined
  } finally {
    body.release()
  }
}

/** Asked of a daemon that does not tell the size: whether there is a byte behind the ticket's. */
async function goesOn(
  exchange: Exchange,
  { ticket, upstream }: Relay,
  signal: AbortSignal,
): Promise<boolean> {
  const { limit } = ticket
  const headers = { via: viaOf(exchange), range: `bytes=${limit}-${limit}` }
  const question = { method: 'GET', headers, isRepeatable: true }
  const { status, head, body } = await ask(upstream, question, signal)
  body.release()
  // One without ranges: all of the image.
  if (status === 200) return !(Number(head.headers['content-length']) <= limit)
  return status === 206
}
