/**
 * What would be lost with a storage server: writes it acknowledged and nobody flushed, connection by
 * connection. A server may say that a flush on one covers all (multi-conn), but nothing tells that two
 * connections lead to the same server still: it may have been restarted, or another have taken its
 * address, while one of them seems to be open. So each is flushed for itself.
 */
export class UnflushedWrites {
  /** Of the same image, this one included. */
  readonly #connections: Set<UnflushedWrites>
  readonly #flush: () => Promise<void>
  readonly #onLost: (cause: unknown) => void
  readonly #flushing = new Set<Promise<unknown>>()
  #written = 0
  #stable = 0
  #hasFlushed = false

  /** `onLost` is called when the writes that were pending are lost, or may be. */
  constructor(
    connections: Set<UnflushedWrites>,
    flush: () => Promise<void>,
    onLost: (cause: unknown) => void,
  ) {
    this.#connections = connections
    this.#flush = flush
    this.#onLost = onLost
    connections.add(this)
  }

  get isPending(): boolean {
    return this.#written > this.#stable
  }

  /** Of all connections. */
  get isAnyPending(): boolean {
    return this.isPending || [...this.#connections].some((writes) => writes.isPending)
  }

  /** Everything written so far is stable, also what was written before this connection. */
  get isClean(): boolean {
    return this.#hasFlushed && !this.isAnyPending
  }

  /** What is pending will never be stable. Told once. */
  lose(cause: unknown): void {
    if (!this.isPending) return
    this.#stable = this.#written
    this.#onLost(cause)
  }

  /** A write was acknowledged. */
  add(): void {
    this.#written++
  }

  /**
   * Covers what any connection was acknowledged before it began. When it fails the server may have
   * dropped what any of them had written, and forgets that: all are told.
   */
  async flush(): Promise<void> {
    const pending = [...this.#connections].filter((writes) => writes.isPending)
    const all = new Set([this, ...pending])
    try {
      await Promise.all([...all].map((writes) => writes.flushOwn()))
    } catch (error) {
      for (const writes of pending) writes.lose(error)
      throw error
    }
  }

  /**
   * One that failed may have been for the same writes, and the server forgets that it was told: so no
   * flush succeeds before those that began earlier, nor when one of them fails.
   */
  async flushOwn(): Promise<void> {
    const until = this.#written
    const flushing = Promise.all([this.#flush(), ...this.#flushing])
    this.#flushing.add(flushing)
    try {
      await flushing
    } finally {
      this.#flushing.delete(flushing)
    }
    this.#hasFlushed = true
    this.#stable = Math.max(this.#stable, until)
  }

  /** Nobody flushes this connection any more; resolves when those who do have ended. */
  async end(): Promise<void> {
    this.#connections.delete(this)
    await Promise.allSettled(this.#flushing)
  }
}
