/** Work of which only so much goes on at once; what comes later waits, first come, first served. */

interface Waiting {
  readonly begin: () => void
  readonly giveUp: (reason: Error) => void
}

export class Turns {
  readonly #limit: number
  readonly #waiting: Waiting[] = []
  #running = 0
  #closed: Error | undefined

  constructor(limit: number) {
    this.#limit = limit
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) throw this.#closed
    if (this.#running < this.#limit) this.#running++
    else await this.#turn()
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      // Its place goes to the next one: nobody who comes just now is faster.
      if (next === undefined) this.#running--
      else next.begin()
    }
  }

  /** Whoever waits, or comes from now on, is rejected with the reason; what runs goes on. */
  close(reason: Error): void {
    this.#closed = reason
    for (const { giveUp } of this.#waiting.splice(0)) giveUp(reason)
  }

  #turn(): Promise<void> {
    return new Promise((begin, giveUp) => {
      this.#waiting.push({ begin, giveUp })
    })
  }
}
