/** Time that passes when the test says so, and transfers that live in it. */
import type { RateClock } from '../../../core/rate/clock.js'
import type { Pace } from '../../../core/rate/pace.js'

interface Timer {
  readonly at: number
  readonly callback: () => void
}

/** Lets everything run that needs no time. */
const settle = (): Promise<void> => new Promise(setImmediate)

export class VirtualClock implements RateClock {
  readonly #timers = new Set<Timer>()
  #now = 5000.25

  now(): number {
    return this.#now
  }

  setTimer(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + ms, callback }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(ms, resolve))
  }

  get timers(): number {
    return this.#timers.size
  }

  async pass(ms: number): Promise<void> {
    const end = this.#now + ms
    await settle()
    for (;;) {
      const [next] = [...this.#timers].sort((a, b) => a.at - b.at)
      if (next === undefined || next.at > end) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.callback()
      await settle()
    }
    this.#now = end
  }
}

export interface Moved {
  readonly at: number
  readonly size: number
}

/** One connection that moves pieces as fast as it may, each in `pieceMs`; until it is aborted. */
export class Mover {
  readonly moved: Moved[] = []
  readonly abort = new AbortController()
  readonly done: Promise<unknown>
  readonly #clock: VirtualClock

  constructor(clock: VirtualClock, pace: Pace, { piece = 1 << 20, pieceMs = 0 } = {}) {
    this.#clock = clock
    this.done = this.#move(pace, piece, pieceMs).catch((error: unknown) => error)
  }

  get total(): number {
    return this.moved.reduce((sum, { size }) => sum + size, 0)
  }

  /** Bytes of the last `ms`. */
  recent(ms: number): number {
    const from = this.#clock.now() - ms
    return this.moved.reduce((sum, { at, size }) => (at > from ? sum + size : sum), 0)
  }

  async #move(pace: Pace, piece: number, pieceMs: number): Promise<void> {
    for (;;) {
      const size = pace.isLimited ? await pace.take(piece, this.abort.signal) : piece
      this.abort.signal.throwIfAborted()
      this.moved.push({ at: this.#clock.now(), size })
      // Without a limit it would never let go.
      if (pieceMs > 0 || !pace.isLimited) await this.#clock.sleep(Math.max(pieceMs, 1))
    }
  }
}

/** The most that `movers` moved together within any `ms`. */
export function busiest(movers: readonly Mover[], ms: number): number {
  const all = movers.flatMap(({ moved }) => moved).sort((a, b) => a.at - b.at)
  let most = 0
  let sum = 0
  for (let first = 0, last = 0; last < all.length; last++) {
    sum += all[last]?.size ?? 0
    while ((all[last]?.at ?? 0) - (all[first]?.at ?? 0) > ms) sum -= all[first++]?.size ?? 0
    most = Math.max(most, sum)
  }
  return most
}
