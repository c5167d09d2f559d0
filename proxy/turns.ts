/** Work of which only so much is done at a time; who comes later waits its turn, in order. */

export interface TurnsOptions {
  readonly limit: number
  readonly waitMs: number
  /** What is thrown to who has waited for that long. */
  readonly late: () => Error
}

export class Turns {
  readonly #options: TurnsOptions
  readonly #waiting = new Set<() => void>()
  #taken = 0

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** Resolves when it is the caller's turn, with what ends it. Rejects when it is too late, or aborted. */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#taken < this.#options.limit) this.#taken++
    else await this.#wait(signal)
    let isGiven = false
    return () => {
      if (!isGiven) this.#pass()
      isGiven = true
    }
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { waitMs, late } = this.#options
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const onTurn = (): void => resolve(undefined)
    // Without effect once it is the caller's turn.
    const onAbort = (): void => reject(signal.reason as Error)
    const timer = setTimeout(() => reject(late()), waitMs)
    signal.addEventListener('abort', onAbort)
    this.#waiting.add(onTurn)
    try {
      await promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      this.#waiting.delete(onTurn)
    }
  }

  /** The turn goes to the next one, and stays taken. */
  #pass(): void {
    const [next] = this.#waiting
    if (next === undefined) {
      this.#taken--
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
