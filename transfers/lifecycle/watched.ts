/**
 * How long ago a stored moment is. It has the time of the wall clock, which somebody may set while we
 * look at it again and again; what has passed since the first look is measured by a clock nobody sets.
 */
import type { Clock } from '../clock.js'

export class Watched {
  readonly #ageOfFuture: number
  #moment: number | undefined
  #ageThen = 0
  #seenAt = 0

  /** `ageOfFuture`: supposed of a moment that has not come yet, because the wall clock was set back. */
  constructor(ageOfFuture = 0) {
    this.#ageOfFuture = ageOfFuture
  }

  /** Milliseconds, never less than 0. */
  age(moment: number, clock: Clock): number {
    if (moment !== this.#moment) {
      this.#moment = moment
      this.#seenAt = clock.elapsed()
      const now = clock.now()
      this.#ageThen = moment > now ? this.#ageOfFuture : now - moment
    }
    return this.#ageThen + clock.elapsed() - this.#seenAt
  }
}
