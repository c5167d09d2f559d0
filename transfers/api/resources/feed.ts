/**
 * What one listener is told of a transfer. A client that reads slowly misses what is older than the
 * newest; nothing queues up, and nothing is told twice.
 */
import type { ServerResponse } from 'node:http'
import type { Clock } from '../../clock.js'
import type { Phase, TransferView } from '../../model.js'
import { reasonOf } from '../entities/transfer.js'

export class Feed {
  readonly #raw: ServerResponse
  readonly #rate: Rate
  #newest: TransferView | undefined
  #told: string | undefined
  #isHeld = false

  /** After `stillMs` without a byte more the transfer stands still. */
  constructor(raw: ServerResponse, clock: Clock, stillMs: number) {
    this.#raw = raw
    this.#rate = new Rate(clock, stillMs, () => this.send(this.#newest))
    raw.on('drain', () => {
      if (this.#isHeld) this.send(this.#newest)
    })
    raw.on('error', () => undefined) // 'close' follows
  }

  /** Undefined is a transfer that is gone. */
  send(transfer: TransferView | undefined): void {
    if (this.#raw.writableEnded || this.#raw.destroyed) return
    this.#newest = transfer
    this.#isHeld = this.#raw.writableNeedDrain
    if (this.#isHeld) return
    if (transfer === undefined) {
      this.#raw.end('event: end\ndata: {}\n\n')
      return
    }
    const { phase, transferred, size, isActive } = transfer
    const rate = this.#rate.of(transfer)
    const description = reasonOf(transfer)
    const data = JSON.stringify({ phase, transferred, size, rate, active: isActive, description })
    // Changes that a listener cannot see, and each change once more by the look at all transfers.
    if (data === this.#told) return
    this.#told = data
    this.#raw.write(`event: transfer\ndata: ${data}\n\n`)
  }

  beat(): void {
    if (!this.#raw.writableNeedDrain && !this.#raw.writableEnded) this.#raw.write(': alive\n\n')
  }

  /** Nobody listens any more. */
  stop(): void {
    this.#rate.stop()
  }
}

/** Phases in which clients have a ticket. */
const MOVING: ReadonlySet<Phase> = new Set([
  ...(['transferring', 'paused_user', 'paused_system', 'resuming'] as const),
])

/** Bytes per second, from amounts that are looked up now and then. */
class Rate {
  readonly #clock: Clock
  readonly #stillMs: number
  readonly #onStill: () => void
  #last: { readonly transferred: number; readonly at: number } | undefined
  #rate = 0
  #endTimer: () => void = () => undefined

  constructor(clock: Clock, stillMs: number, onStill: () => void) {
    this.#clock = clock
    this.#stillMs = stillMs
    this.#onStill = onStill
  }

  of({ transferred, phase }: TransferView): number {
    const at = this.#clock.now()
    const last = this.#last
    if (!MOVING.has(phase)) this.stop()
    // Changes of other things say nothing about it.
    if (transferred === last?.transferred) return this.#rate
    this.#last = { transferred, at }
    if (last === undefined || !MOVING.has(phase)) return this.#rate
    // What came after a rest came in the time since the last look, not in all the time of the rest.
    const ms = Math.min(at - last.at, this.#stillMs)
    if (ms > 0) this.#rate = Math.max(0, Math.round(((transferred - last.transferred) * 1000) / ms))
    this.#endTimer()
    this.#endTimer = this.#clock.setTimer(this.#stillMs, () => {
      this.stop()
      this.#onStill()
    })
    return this.#rate
  }

  /** Nothing moves. */
  stop(): void {
    this.#endTimer()
    this.#rate = 0
  }
}
