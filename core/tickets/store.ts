/** All tickets of the process. They live in memory only. */
import { createHmac, randomBytes } from 'node:crypto'
import { shortId, type Logger } from '../log.js'
import { TRANSFER_ID_LENGTH, type TicketDefinition, type TicketOp } from './definition.js'
import { NoSuchTicketError, TicketBusyError, TicketDeniedError } from './errors.js'
import { monotonicSeconds, Ticket, type Clock } from './ticket.js'

export interface StoreOptions {
  /** Seconds an expired ticket that nobody uses stays listed. */
  readonly expiredGrace: number
  readonly logger: Logger
  readonly clock?: Clock
}

/** How often expired tickets are looked for. */
const SWEEP_MS = 10_000

export class TicketStore {
  readonly #options: StoreOptions
  readonly #tickets = new Map<string, Ticket>()
  /** Tickets are found by a keyed digest of their id, so the time it takes tells nothing about ids. */
  readonly #key = randomBytes(32)
  readonly #sweep: NodeJS.Timeout

  constructor(options: StoreOptions) {
    this.#options = options
    this.#sweep = setInterval(() => this.#forgetExpired(), SWEEP_MS).unref()
  }

  /**
   * Stores a new ticket. A ticket of the same id is canceled first; throws TicketBusyError when its
   * operations have not ended after `timeoutMs`.
   */
  async add(definition: TicketDefinition, timeoutMs: number): Promise<void> {
    const key = this.#digest(definition.id)
    for (let old = this.#tickets.get(key); old !== undefined; old = this.#tickets.get(key)) {
      await this.#end(old, timeoutMs)
      this.#forget(key, old)
    }
    this.#tickets.set(key, new Ticket(definition, this.#options.clock ?? monotonicSeconds))
    const { size, ops, timeout, sparse, dirty } = definition
    this.#log(definition, 'ticket added', { size: String(size), ops, timeout, sparse, dirty })
  }

  /** Throws NoSuchTicketError. */
  get(id: string): Ticket {
    const ticket = this.#tickets.get(this.#digest(id))
    if (ticket === undefined) throw new NoSuchTicketError()
    return ticket
  }

  list(): Ticket[] {
    return [...this.#tickets.values()]
  }

  /** For images: order and texts tell nothing about ids. Throws an error of 403. */
  authorize(id: string, op: TicketOp): Ticket {
    const ticket = this.#tickets.get(this.#digest(id))
    if (ticket === undefined) throw new TicketDeniedError('there is no such ticket')
    ticket.authorize(op)
    return ticket
  }

  extend(id: string, seconds: number): void {
    const ticket = this.get(id)
    ticket.extend(seconds)
    this.#log(ticket.definition, 'ticket extended', { timeout: seconds })
  }

  /**
   * Cancels a ticket and removes it when its operations have ended and everything opened for it is
   * closed. Throws TicketBusyError after `timeoutMs`; 0 does not wait, and leaves a busy ticket listed
   * until it is removed again.
   */
  async remove(id: string, timeoutMs: number): Promise<void> {
    const key = this.#digest(id)
    const ticket = this.#tickets.get(key)
    if (ticket === undefined) return
    if (timeoutMs === 0 && !ticket.isUnused) {
      ticket.cancel()
      return
    }
    await this.#end(ticket, timeoutMs)
    this.#forget(key, ticket)
    this.#log(ticket.definition, 'ticket removed', { moved: ticket.moved })
  }

  /** Cancels all. Throws the first TicketBusyError, after having removed what could be. */
  async removeAll(timeoutMs: number): Promise<void> {
    const ids = this.list().map((ticket) => ticket.definition.id)
    const results = await Promise.allSettled(ids.map((id) => this.remove(id, timeoutMs)))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  /** Ends the store's own timer. */
  close(): void {
    clearInterval(this.#sweep)
  }

  async #end(ticket: Ticket, timeoutMs: number): Promise<void> {
    ticket.cancel()
    if (!(await ticket.unused(timeoutMs))) {
      this.#log(ticket.definition, 'ticket is still in use', {})
      throw new TicketBusyError()
    }
    await ticket.release()
  }

  #forget(key: string, ticket: Ticket): void {
    if (this.#tickets.get(key) === ticket) this.#tickets.delete(key)
  }

  #forgetExpired(): void {
    for (const [key, ticket] of this.#tickets) {
      if (!ticket.isUnused || ticket.secondsLeft > -this.#options.expiredGrace) continue
      this.#end(ticket, 0).then(
        () => {
          this.#forget(key, ticket)
          this.#log(ticket.definition, 'expired ticket forgotten', {})
        },
        () => undefined, // closing failed: it stays and is tried again
      )
    }
  }

  #log(definition: TicketDefinition, message: string, facts: object): void {
    this.#options.logger.info({ ...logFields(definition), ...facts }, message)
  }

  #digest(id: string): string {
    return createHmac('sha256', this.#key).update(id).digest('base64')
  }
}

/** How a ticket appears in the log. */
export function logFields(definition: TicketDefinition): { ticket: string; transfer: string } {
  return { ticket: shortId(definition.id), transfer: publicTransferId(definition) }
}

/** A transfer id may be made of the ticket's, as those are that we make up ourselves. */
function publicTransferId({ id, transferId }: TicketDefinition): string {
  const prefix = id.slice(0, TRANSFER_ID_LENGTH)
  return transferId.replaceAll(id, shortId(id)).replaceAll(prefix, shortId(id))
}
