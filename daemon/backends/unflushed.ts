/**
 * What would be lost with a storage server: writes it acknowledged and nobody flushed. Connections to
 * one image share a clock, as a flush may cover the writes of all, and must in the end.
 */
export class WriteClock {
  /** Of all connections that are open. */
  readonly writers = new Set<UnflushedWrites>()
  /** Up to here everything is stable, whoever wrote it. */
  flushed = 0
  #now = 0

  get now(): number {
    return this.#now
  }

  /** The time of a write that was acknowledged just now. */
  tick(): number {
    return ++this.#now
  }
}

export interface UnflushedOptions {
  /** A flush on one connection is one for all. */
  readonly coversAll: boolean
  readonly flush: () => Promise<void>
}

/** The writes of one connection. */
export class UnflushedWrites {
  readonly #clock: WriteClock
  readonly #options: UnflushedOptions
  #lastWrite = 0
  #flushed = 0
  #hasFlushed = false

  constructor(clock: WriteClock, options: UnflushedOptions) {
    this.#clock = clock
    this.#options = options
    clock.writers.add(this)
  }

  get isPending(): boolean {
    const flushed = this.#options.coversAll ? this.#clock.flushed : 0
    return this.#lastWrite > Math.max(this.#flushed, flushed)
  }

  /** Everything written so far is stable, also what was written before this connection. */
  get isClean(): boolean {
    return this.#hasFlushed && ![...this.#clock.writers].some((writes) => writes.isPending)
  }

  /** A write was acknowledged. */
  add(): void {
    this.#lastWrite = this.#clock.tick()
  }

  /** Covers what any connection was acknowledged before it began. */
  async flush(): Promise<void> {
    const others = this.#options.coversAll ? [] : this.#clock.writers
    const pending = [...others].filter((other) => other !== this && other.isPending)
    await Promise.all([this, ...pending].map((writes) => writes.flushOwn()))
  }

  async flushOwn(): Promise<void> {
    const until = this.#clock.now
    await this.#options.flush()
    this.#hasFlushed = true
    this.#flushed = Math.max(this.#flushed, until)
    if (this.#options.coversAll) this.#clock.flushed = Math.max(this.#clock.flushed, until)
  }

  /** The connection has ended. */
  end(): void {
    this.#clock.writers.delete(this)
  }
}
