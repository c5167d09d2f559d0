/**
 * One image opened for one connection under one ticket. Parallel connections have their own, so that
 * canceling a ticket or losing a connection closes exactly what belongs to it.
 */
import type { Connection } from '../../core/http/connection.js'
import { ClientGoneError } from '../../core/http/errors.js'
import type { Ticket, TicketContext } from '../../core/tickets/ticket.js'
import type { Backend } from '../backends/backend.js'
import { StorageGoneError } from '../backends/errors.js'

export type OpenImage = (ticket: Ticket) => Promise<Backend>

export class ImageContext implements TicketContext {
  readonly #ticket: Ticket
  readonly #connection: Connection
  readonly #opening: Promise<Backend>
  #backend: Backend | undefined
  #users = 0
  #whenUnused: (() => void) | undefined
  #closing: Promise<void> | undefined

  /** The connection's context for the ticket, opened when it has none. Throws TicketCanceledError. */
  static of(connection: Connection, ticket: Ticket, open: OpenImage): ImageContext {
    if (connection.gone.aborted) throw new ClientGoneError()
    const known = connection.resources.get(ticket)
    if (known instanceof ImageContext && known.#isUsable()) return known
    return new ImageContext(connection, ticket, open)
  }

  private constructor(connection: Connection, ticket: Ticket, open: OpenImage) {
    this.#ticket = ticket
    this.#connection = connection
    ticket.attach(this)
    connection.resources.set(ticket, this)
    connection.authorized(ticket.definition.inactivityTimeout * 1000)
    this.#opening = open(ticket)
    this.#opening
      .then(
        (backend) => void (this.#backend = backend),
        () => this.close(),
      )
      .catch(() => undefined) // users see the first error
  }

  /** Runs `work` with the image, which stays open meanwhile. */
  async use<T>(work: (backend: Backend) => Promise<T>): Promise<T> {
    this.#users++
    try {
      return await work(await this.#opening)
    } catch (error) {
      // Opening again is the only thing that may help, so the next request does.
      if (error instanceof StorageGoneError || this.#backend?.isGone === true) this.#retire()
      throw error
    } finally {
      this.#users--
      if (this.#users === 0) this.#whenUnused?.()
    }
  }

  /** Also looks whether the storage went away while nobody used it. */
  #isUsable(): boolean {
    if (this.#backend?.isGone === true) this.#retire()
    return this.#closing === undefined
  }

  /** The next request opens anew. */
  #retire(): void {
    this.close().catch(() => undefined)
  }

  /** Waits for users, then closes. May be called again when it failed. */
  close(): Promise<void> {
    this.#closing ??= this.#close().catch((error: unknown) => {
      this.#closing = undefined
      throw error
    })
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => (this.#whenUnused = resolve))
    const backend = await this.#opening.catch(() => undefined)
    try {
      await backend?.close()
    } catch (error) {
      // It stored what was written. A ticket that is being removed hears of it from nobody else.
      if (this.#ticket.mayWrite()) this.#ticket.loseWrites(error)
      throw error
    }
    this.#ticket.detach(this)
    const { resources } = this.#connection
    if (resources.get(this.#ticket) === this) resources.delete(this.#ticket)
  }
}
