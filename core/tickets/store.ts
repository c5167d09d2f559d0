/** All tickets of the process. They live in memory only. */
import { hash, randomBytes } from 'node:crypto'
import { shortId, type Logger } from '../log.js'
import type { RateLimiter } from '../rate/rate-limiter.js'
import {
  TRANSFER_ID_LENGTH,
  type TicketChange,
  type TicketDefinition,
  type TicketOp,
} from './definition.js'
import {
  NoSuchTicketError,
  SignedTicketsBusyError,
  TicketBusyError,
  TicketDeniedError,
  TicketInvalidError,
  TicketRemovedError,
  UnfinishedError,
} from './errors.js'
import type { Journals } from './journal.js'
import { RemovedIds } from './removed-ids.js'
import { monotonicSeconds, Ticket, type Clock, type TicketOptions } from './ticket.js'
import { Unfinished } from './unfinished.js'

export interface StoreOptions {
  /** Seconds an expired ticket that nobody uses stays listed. */
  readonly expiredGrace: number
  readonly logger: Logger
  readonly clock?: Clock
  /** Of all tickets together. */
  readonly rates?: RateLimiter
  /** Where changes are recorded for the next process. */
  readonly journals?: Journals
}

/** What who shows no good ticket is told, whatever is wrong with it. */
export const UNKNOWN = 'there is no such ticket'

/** How often expired tickets are looked for. */
const SWEEP_MS = 10_000
/** And journals that are a week old. */
const JOURNAL_SWEEP_MS = 3600 * 1000

export class TicketStore {
  readonly #options: StoreOptions
  readonly #tickets = new Map<string, Ticket>()
  /** Tickets are found by a keyed digest of their id, so the time it takes tells nothing about ids. */
  readonly #key = randomBytes(32).toString('hex')
  readonly #removed: RemovedIds
  readonly #sweep: NodeJS.Timeout
  readonly #journalSweep: NodeJS.Timeout
  /** How many are signed. */
  #signed = 0

  constructor(options: StoreOptions) {
    this.#options = options
    this.#removed = new RemovedIds(options.clock ?? monotonicSeconds)
    this.#sweep = setInterval(() => {
      this.#forgetExpired()
      this.#removed.forgetOld()
    }, SWEEP_MS).unref()
    options.journals?.forgetOld()
    this.#journalSweep = setInterval(() => options.journals?.forgetOld(), JOURNAL_SWEEP_MS).unref()
  }

  /**
   * Stores a new ticket. A ticket of the same id is canceled first; throws TicketBusyError when its
   * operations have not ended after `timeoutMs`, TicketRemovedError when the id was removed for good.
   */
  async add(definition: TicketDefinition, timeoutMs: number): Promise<void> {
    const key = this.#digest(definition.id)
    this.#removed.check(key)
    let unfinished: Unfinished | undefined
    for (let old = this.#tickets.get(key); old !== undefined; old = this.#tickets.get(key)) {
      await this.#end(old, timeoutMs)
      this.#removed.check(key) // while that was waited for; who removes it is told what is lost
      unfinished = old.unfinished
      this.#forget(key, old)
    }
    const kept = unfinished && { unfinished, isRecalled: true }
    this.#tickets.set(key, this.#make(definition, kept ?? this.#recall(definition)))
    const { size, ops, timeout, sparse, dirty } = definition
    this.#log(definition, 'ticket added', { size: String(size), ops, timeout, sparse, dirty })
  }

  /**
   * The ticket of a token that was verified: the one there is, or a new one. Its id must be made so
   * that equal ids mean equal rights. It is not renewed by use and ends after `definition.timeout`.
   * Throws SignedTicketsBusyError when there are `max` of them.
   */
  admitSigned(definition: TicketDefinition, max: number): Ticket {
    const key = this.#digest(definition.id)
    const known = this.#tickets.get(key)
    if (known !== undefined) {
      // The engine may have chosen any id for a ticket of its own.
      if (!known.isSigned) throw new TicketDeniedError(UNKNOWN)
      known.prolong(definition.timeout)
      return known
    }
    if (this.#signed >= max) this.#makeRoom()
    if (this.#signed >= max) throw new SignedTicketsBusyError()
    const ticket = this.#make(definition, { isSigned: true })
    this.#tickets.set(key, ticket)
    this.#signed++
    const { size, ops, timeout, sparse, dirty } = definition
    const facts = { size: String(size), ops, timeout, sparse, dirty }
    this.#log(definition, 'signed ticket admitted', facts)
    return ticket
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
    const ticket = this.find(id)
    if (ticket === undefined) throw new TicketDeniedError(UNKNOWN)
    ticket.authorize(op)
    return ticket
  }

  /** A ticket that its id alone gives access to. */
  find(id: string): Ticket | undefined {
    const ticket = this.#tickets.get(this.#digest(id))
    return ticket?.isSigned === true ? undefined : ticket
  }

  /** All that is asked for, or nothing. Throws NoSuchTicketError, TicketInvalidError. */
  change(id: string, { timeout, maxBytesPerSecond }: TicketChange): void {
    const ticket = this.get(id)
    const { definition } = ticket
    if (timeout !== undefined && ticket.isSigned) {
      throw new TicketInvalidError('a signed ticket ends when its token says, or is revoked')
    }
    if (timeout !== undefined) {
      ticket.extend(timeout)
      this.#log(definition, 'ticket extended', { timeout })
    }
    if (maxBytesPerSecond !== undefined) {
      ticket.rate.setRate(maxBytesPerSecond)
      this.#log(definition, 'ticket limited', { max_bytes_per_second: maxBytesPerSecond })
    }
  }

  /** From now on no ticket of this id can be added, also if there is none now. */
  forbid(id: string): void {
    this.#removed.add(this.#digest(id))
  }

  /**
   * Cancels a ticket and removes it when its operations have ended and everything opened for it is
   * closed. `knowsLoss` is given by who removes it for good: false throws UnfinishedError when writes are
   * lost or uploads not complete. Without it TransferBrokenError is thrown, once, when writes are lost.
   * Throws TicketBusyError after `timeoutMs`; 0 does not wait, and leaves a busy ticket listed until it is
   * removed again, of which only who gave `knowsLoss` as false is told.
   */
  async remove(id: string, timeoutMs: number, knowsLoss?: boolean): Promise<void> {
    const key = this.#digest(id)
    const ticket = this.#tickets.get(key)
    if (ticket === undefined) {
      this.#removeRecord(id, knowsLoss)
      return
    }
    if (timeoutMs === 0 && !ticket.isUnused) {
      ticket.cancel()
      // Who wants all of the image has to know what comes of what is under way.
      if (knowsLoss === false) throw new TicketBusyError()
      return
    }
    await this.#end(ticket, timeoutMs)
    ticket.tellLoss(knowsLoss)
    this.#forget(key, ticket)
    this.#leave(ticket, knowsLoss)
    this.#log(ticket.definition, 'ticket removed', { moved: ticket.moved })
  }

  /** Cancels all. Throws the first TicketBusyError, after having removed what could be. */
  async removeAll(timeoutMs: number): Promise<void> {
    const ids = this.list().map((ticket) => ticket.definition.id)
    const results = await Promise.allSettled(ids.map((id) => this.remove(id, timeoutMs)))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  /** Ends the store's own timers. */
  close(): void {
    clearInterval(this.#sweep)
    clearInterval(this.#journalSweep)
  }

  /** What a process before this one knew, if it wrote and was not the engine's to forget. */
  #recall(definition: TicketDefinition): TicketOptions {
    if (!definition.ops.includes('write')) return {}
    const mustEmpty = definition.replaces
    const { journals } = this.#options
    if (journals?.isRemoved(definition.id) === true) throw new TicketRemovedError()
    const journal = journals?.open(definition.id)
    const unfinished = new Unfinished({ journal, mustEmpty })
    return { unfinished, isRecalled: journal?.found !== undefined }
  }

  /** Who installs a ticket again wants what is known of it, unless it was removed for good. */
  #leave({ definition: { id }, unfinished }: Ticket, knowsLoss?: boolean): void {
    unfinished.close()
    if (knowsLoss === undefined) this.#options.journals?.leave(id)
    else this.#options.journals?.remove(id, !knowsLoss)
  }

  /** Of a ticket that is not installed, for who removes it for good. */
  #removeRecord(id: string, knowsLoss: boolean | undefined): void {
    const { journals } = this.#options
    if (journals === undefined || knowsLoss === undefined) return
    const { announced = [], unsized = [], isLost = false } = journals.look(id) ?? {}
    const missing = announced.reduce((sum, { start, end }) => sum + end - start, unsized.length)
    if (!knowsLoss && (missing > 0 || isLost)) throw new UnfinishedError({ missing, isLost })
    journals.remove(id, !knowsLoss)
  }

  #make(definition: TicketDefinition, options: TicketOptions = {}): Ticket {
    const { clock = monotonicSeconds, rates } = this.#options
    return new Ticket(definition, clock, { ...options, ...(rates === undefined ? {} : { rates }) })
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
    if (this.#tickets.get(key) !== ticket) return
    this.#tickets.delete(key)
    if (ticket.isSigned) this.#signed--
  }

  #forgetExpired(): void {
    for (const [key, ticket] of this.#tickets) {
      if (!ticket.isUnused || ticket.secondsLeft > -this.#options.expiredGrace) continue
      this.#end(ticket, 0).then(
        () => {
          this.#forget(key, ticket)
          ticket.unfinished.close()
          this.#options.journals?.leave(ticket.definition.id)
          this.#log(ticket.definition, 'expired ticket forgotten', {})
        },
        () => undefined, // closing failed: it stays and is tried again
      )
    }
  }

  /** Who signs may ask for more tickets than fit: progress of those that ended is forgotten early. */
  #makeRoom(): void {
    for (const [key, ticket] of this.#tickets) {
      const isOver = ticket.isSigned && ticket.isExpired && ticket.isUnused
      if (isOver && ticket.connections === 0) this.#forget(key, ticket)
    }
  }

  #log(definition: TicketDefinition, message: string, facts: object): void {
    this.#options.logger.info({ ...logFields(definition), ...facts }, message)
  }

  #digest(id: string): string {
    return hash('sha256', this.#key + id, 'base64')
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
