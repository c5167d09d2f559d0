/**
 * One after the other, with a rest between, for each address by itself. How many may wait is bounded, and
 * nothing is kept of who has rested.
 */
import { networkOf } from '../../../core/http/network.js'
import type { Clock } from '../../clock.js'
import { TooManyFailuresError } from './errors.js'

export interface Pace {
  readonly restMs: number
  readonly maxWaiting: number
}

interface Turn {
  readonly begin: () => void
  readonly refuse: (error: Error) => void
}

interface Line {
  readonly waiting: Turn[]
  endRest: () => void
}

export class Paces {
  readonly #pace: Pace
  readonly #clock: Clock
  readonly #lines = new Map<string, Line>()

  constructor(pace: Pace, clock: Clock) {
    this.#pace = pace
    this.#clock = clock
  }

  /** Resolves when it is the turn of this one. Throws TooManyFailuresError when too many wait. */
  async turn(address: string): Promise<void> {
    const network = networkOf(address)
    const line = this.#lines.get(network)
    if (line === undefined) {
      const first: Line = { waiting: [], endRest: () => undefined }
      this.#lines.set(network, first)
      this.#rest(network, first)
      return
    }
    const { restMs, maxWaiting } = this.#pace
    if (line.waiting.length >= maxWaiting) {
      throw new TooManyFailuresError(Math.ceil(restMs / 1000))
    }
    await new Promise<void>((begin, refuse) => line.waiting.push({ begin, refuse }))
  }

  /** Who waits is refused. */
  close(): void {
    for (const { waiting, endRest } of this.#lines.values()) {
      endRest()
      for (const { refuse } of waiting) refuse(new TooManyFailuresError(1))
    }
    this.#lines.clear()
  }

  #rest(network: string, line: Line): void {
    line.endRest = this.#clock.setTimer(this.#pace.restMs, () => {
      const next = line.waiting.shift()
      if (next === undefined) {
        this.#lines.delete(network)
        return
      }
      this.#rest(network, line)
      next.begin()
    })
  }
}
