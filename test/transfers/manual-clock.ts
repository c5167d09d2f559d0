/** Time that passes when the test says so. */
import type { Clock } from '../../transfers/clock.js'

interface Timer {
  readonly due: number
  readonly callback: () => void
}

export class ManualClock implements Clock {
  #now = Date.UTC(2030, 0, 1)
  #offset = 0
  readonly #timers = new Set<Timer>()

  now(): number {
    return this.#now + this.#offset
  }

  elapsed(): number {
    return this.#now
  }

  /** Until the next timer is due; undefined when there is none. */
  nextMs(): number | undefined {
    const dues = [...this.#timers].map(({ due }) => due - this.#now)
    return dues.length === 0 ? undefined : Math.min(...dues)
  }

  /** The wall clock jumps; no time passes. */
  set(ms: number): void {
    this.#offset += ms
  }

  setTimer(ms: number, callback: () => void): () => void {
    const timer = { due: this.#now + ms, callback }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }

  /** Lets time pass; timers are called in their order, each at its time. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const [next] = [...this.#timers].filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)
      if (next === undefined) break
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.due)
      next.callback()
    }
    this.#now = end
  }
}
