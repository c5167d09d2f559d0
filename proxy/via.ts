/**
 * `Via` (RFC 9110, 7.6.3): whom a request has passed. One that comes here again would go round until all
 * connections are used up: a ticket whose URL is the proxy's own, or two proxies with tickets that name each
 * other.
 */
import { randomBytes } from 'node:crypto'
import type { Exchange } from '../core/http/exchange.js'
import { LoopError } from './errors.js'

/** A pseudonym, as no name of a host is anybody's business. */
const PSEUDONYM = `imageio-${randomBytes(8).toString('hex')}`

/** Of requests that begin here. */
export const OWN_VIA = `1.1 ${PSEUDONYM}`

/** Throws LoopError. */
export function refuseLoop(exchange: Exchange): void {
  if (exchange.header('via')?.includes(PSEUDONYM) === true) throw new LoopError()
}

export function viaOf(exchange: Exchange): string {
  const before = exchange.header('via')
  const own = exchange.isH2 ? `2.0 ${PSEUDONYM}` : OWN_VIA
  return before === undefined ? own : `${before}, ${own}`
}
