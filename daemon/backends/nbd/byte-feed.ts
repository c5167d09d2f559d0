/**
 * Bytes of a stream put where somebody expects them. What nobody expects yet is kept, which is a few
 * bytes during the handshake. Large expectations may be filled by the socket itself: see `direct`.
 */

/** Below this a system call of its own costs more than a copy. */
const MIN_DIRECT = 4096

const NOTHING = Buffer.alloc(0)

export class ByteFeed {
  #held: Buffer = NOTHING
  #into: Buffer = NOTHING
  #filled = 0
  #then: (() => void) | undefined
  #isRunning = false

  /** `then` is called once `into` is full; it may expect more, or throw. */
  expect(into: Buffer, then: () => void): void {
    this.#into = into
    this.#filled = 0
    this.#then = then
    this.#run()
  }

  /** The chunk's memory may be reused after this. Throws what a `then` throws. */
  feed(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    this.#run()
    if (this.#held.length > 0) this.#held = Buffer.from(this.#held)
  }

  /** Bytes received that nobody has expected yet. */
  get held(): number {
    return this.#held.length
  }

  /** Where the next bytes belong, if they are many: tell with filled() how many came. */
  get direct(): Buffer | undefined {
    if (this.#then === undefined || this.#held.length > 0) return undefined
    const rest = this.#into.length - this.#filled
    return rest < MIN_DIRECT ? undefined : this.#into.subarray(this.#filled)
  }

  filled(count: number): void {
    this.#filled += count
    this.#run()
  }

  /** Nobody's memory is touched from now on. */
  stop(): void {
    this.#then = undefined
    this.#into = NOTHING
    this.#held = NOTHING
  }

  #run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    try {
      while (this.#then !== undefined) {
        const taken = this.#held.copy(this.#into, this.#filled)
        this.#held = this.#held.subarray(taken)
        this.#filled += taken
        if (this.#filled < this.#into.length) return
        const then = this.#then
        this.#then = undefined
        this.#into = NOTHING
        then()
      }
    } finally {
      this.#isRunning = false
    }
  }
}
