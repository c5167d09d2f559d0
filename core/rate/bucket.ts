/**
 * One limit: credit that grows with time, and that a grant may overdraw. So a grant of any size is
 * possible, and over any time no more moves than the rate gives for it and about 150 ms more.
 */

/** What is not used within this time is lost. Longer than an event loop is busy now and then. */
const CREDIT_MS = 100
/** Of the rate, one grant: twenty a second cost nothing, and no client notices such pauses. */
const GRANT_MS = 50
/** Less is mostly header. Rates below 20 KiB/s are less smooth for it. */
const MIN_GRANT = 1024

export class Bucket {
  #bytesPerSecond: number
  #credit = 0
  #countedAt: number

  /** A rate of 0 is no limit. */
  constructor(bytesPerSecond: number, now: number) {
    this.#bytesPerSecond = bytesPerSecond
    this.#countedAt = now
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond
  }

  get isLimited(): boolean {
    return this.#bytesPerSecond > 0
  }

  /** Bytes of one grant, where `parts` take turns. */
  grantSize(parts: number): number {
    if (!this.isLimited) return Infinity
    return Math.max(MIN_GRANT, Math.floor(this.bytesIn(GRANT_MS) / parts))
  }

  /** The most that may be saved. */
  get maxCredit(): number {
    return this.bytesIn(CREDIT_MS)
  }

  bytesIn(ms: number): number {
    return (this.#bytesPerSecond * ms) / 1000
  }

  /** What was granted at another rate does not count at the new one: it could mean hours. */
  setRate(bytesPerSecond: number, now: number): void {
    if (bytesPerSecond === this.#bytesPerSecond) return
    this.#bytesPerSecond = bytesPerSecond
    this.#credit = 0
    this.#countedAt = now
  }

  /** Milliseconds until there may be a grant, 0 when that is now. */
  waitMs(now: number): number {
    if (!this.isLimited) return 0
    this.#add(this.bytesIn(now - this.#countedAt))
    this.#countedAt = now
    return this.#credit >= 0 ? 0 : (-this.#credit * 1000) / this.#bytesPerSecond
  }

  charge(size: number): void {
    if (this.isLimited) this.#credit -= size
  }

  refund(size: number): void {
    if (this.isLimited) this.#add(size)
  }

  #add(size: number): void {
    this.#credit = Math.min(this.#credit + size, this.maxCredit)
  }
}
