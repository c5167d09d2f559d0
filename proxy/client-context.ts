/** What a client connection has opened under a ticket here: nothing, but it counts (`connections`). */
import type { Closable, Connection } from '../core/http/connection.js'
import type { Ticket, TicketContext } from '../core/tickets/ticket.js'

export class ClientContext implements TicketContext, Closable {
  readonly #ticket: Ticket
  readonly #connection: Connection

  /** Counts the connection once. Throws TicketCanceledError. */
  static attach(connection: Connection, ticket: Ticket): void {
    if (connection.gone.aborted || connection.resources.has(ticket)) return
    const context = new ClientContext(connection, ticket)
    ticket.attach(context)
    connection.resources.set(ticket, context)
    connection.authorized(ticket.definition.inactivityTimeout * 1000)
  }

  private constructor(connection: Connection, ticket: Ticket) {
    this.#connection = connection
    this.#ticket = ticket
  }

  close(): Promise<void> {
    this.#ticket.detach(this)
    this.#connection.resources.delete(this.#ticket)
    return Promise.resolve()
  }
}
