/**
 * Ids of tickets that were removed for good. A request to install one may still be on its way, from who
 * has given up waiting for the answer and has removed the ticket since: it must not bring it back.
 */
import { TicketRemovedError } from './errors.js'
import type { Clock } from './ticket.js'

/**
 * A day: far longer than any kernel keeps a request for a connection, and than a program that sends
 * one stands still. A restart may forget them: a request ends with the process it was sent to.
 */
const KEPT_SECONDS = 24 * 60 * 60

export class RemovedIds {
  readonly #clock: Clock
  /** When, by the key of the id; the oldest first. */
  readonly #removed = new Map<string, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(key: string): void {
    this.#removed.delete(key)
    this.#removed.set(key, this.#clock())
  }

  /** Throws TicketRemovedError. */
  check(key: string): void {
    if (this.#removed.has(key)) throw new TicketRemovedError()
  }

  forgetOld(): void {
    const now = this.#clock()
    for (const [key, removedAt] of this.#removed) {
      if (now - removedAt < KEPT_SECONDS) return
      this.#removed.delete(key)
    }
  }
}
