/**
 * What a request must show before it may touch an image: the id of a ticket that was installed, or,
 * where that is configured, a token that makes a ticket.
 */
import type { Exchange } from '../http/exchange.js'
import type { TicketOp } from './definition.js'
import { TicketDeniedError } from './errors.js'
import { findToken } from './signed/credentials.js'
import type { SignedTickets } from './signed/signed-tickets.js'
import { UNKNOWN, type TicketStore } from './store.js'
import type { Ticket } from './ticket.js'

/** What of a request is looked at. */
export type Credentials = Pick<Exchange, 'id' | 'header' | 'logger'>

export class TicketGate {
  readonly #store: TicketStore
  readonly #signed: SignedTickets | undefined

  constructor(store: TicketStore, signed?: SignedTickets) {
    this.#store = store
    this.#signed = signed
  }

  /**
   * The ticket, at once unless a token has to be verified. Throws, or rejects with, an error of 403
   * that is the same for an unknown id and for a token with anything wrong; the log knows what.
   */
  authorize(credentials: Credentials, op: TicketOp): Ticket | Promise<Ticket> {
    const installed = this.#store.find(credentials.id)
    if (installed !== undefined) {
      installed.authorize(op)
      return installed
    }
    const shown = this.#signed && findToken(credentials)
    if (this.#signed === undefined || shown === undefined) throw new TicketDeniedError(UNKNOWN)
    return this.#signed.authorize(shown, op, credentials.logger)
  }
}
