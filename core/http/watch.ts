/**
 * Watches a client that is to send or to take bytes. Time in which the server itself is busy does not
 * count: only waiting for the client does.
 */
export interface WatchOptions {
  /** Longest silence. */
  readonly inactivityMs: number
  /** Bytes per second the client must move, averaged over `inactivityMs`; 0 is off. */
  readonly minRate: number
  /** Bytes moved so far, where nobody calls moved(). */
  readonly total?: (() => number) | undefined
  /** While it is true the client may be unable to move anything, for a reason of ours. */
  readonly isExcused?: () => boolean
}

/** Longest time between two looks. */
const TICK_MS = 500

export class ClientWatch {
  readonly #options: WatchOptions
  readonly #onTimeout: () => void
  readonly #timer: NodeJS.Timeout
  readonly #tickMs: number
  #waiting = 0
  #moved = 0
  #total: number
  #silentMs = 0
  #windowMs = 0
  #windowBytes = 0

  constructor(options: WatchOptions, onTimeout: () => void) {
    this.#options = options
    this.#onTimeout = onTimeout
    this.#total = options.total?.() ?? 0
    this.#tickMs = Math.min(TICK_MS, options.inactivityMs / 4)
    this.#timer = setInterval(() => this.#tick(), this.#tickMs)
  }

  /** The client's turn begins. */
  wait(): void {
    if (this.#waiting++ === 0) this.#silentMs = 0
  }

  /** The client's turn ends. */
  done(): void {
    this.#waiting--
  }

  /** The client moved bytes. */
  moved(size: number): void {
    this.#moved += size
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #tick(): void {
    const total = this.#options.total?.() ?? 0
    const moved = this.#moved + total - this.#total
    this.#moved = 0
    this.#total = total
    this.#windowBytes += moved
    const { inactivityMs, minRate, isExcused } = this.#options
    if (this.#waiting === 0 || isExcused?.() === true) return
    this.#silentMs = moved > 0 ? 0 : this.#silentMs + this.#tickMs
    this.#windowMs += this.#tickMs
    const isWindowFull = this.#windowMs >= inactivityMs
    const isTooSlow = isWindowFull && (this.#windowBytes * 1000) / this.#windowMs < minRate
    if (this.#silentMs >= inactivityMs || isTooSlow) this.#expire()
    if (!isWindowFull) return
    this.#windowMs = 0
    this.#windowBytes = 0
  }

  #expire(): void {
    this.stop()
    this.#onTimeout()
  }
}
