/** The ticket of a request on an image, and what becomes of a connection that has no good one. */
import { ServiceError } from '../errors.js'
import type { Exchange } from '../http/exchange.js'
import type { WatchOptions } from '../http/watch.js'
import { shortId } from '../log.js'
import type { TicketOp } from '../tickets/definition.js'
import type { TicketGate } from '../tickets/gate.js'
import { logFields } from '../tickets/store.js'
import { Ticket } from '../tickets/ticket.js'

/** Authorizes, and keeps the ticket in use until `work` has settled. */
export async function withTicket(
  exchange: Exchange,
  gate: TicketGate,
  op: TicketOp,
  work: (ticket: Ticket) => Promise<void>,
): Promise<void> {
  exchange.bind({ ticket: shortId(exchange.id) })
  const found = gate.authorize(exchange, op)
  // Not always awaited: a ticket that is known costs no turn.
  const ticket = found instanceof Ticket ? found : await found
  exchange.bind(logFields(ticket.definition))
  const hold = ticket.begin('hold')
  try {
    await work(ticket)
  } finally {
    hold.end()
  }
}

/** How long a client of this ticket may be silent, and how slow. */
export function watchOf(ticket: Ticket, minBodyRate: number): WatchOptions {
  return { inactivityMs: ticket.definition.inactivityTimeout * 1000, minRate: minBodyRate }
}

/** A connection whose ticket is no good has nothing left to do (images-api.md, K3). */
export async function closeWhenDenied(exchange: Exchange, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (error instanceof ServiceError && error.statusCode === 403) exchange.closeAfter()
    throw error
  }
}
