/**
 * How fast bodies move: all of a process together, and each ticket. Who has had least is next, so tickets
 * share the rate evenly; what one cannot use, as its own limit is lower or its client slow, goes to the
 * others. It counts bytes and knows neither bodies nor connections.
 */
import { Bucket } from './bucket.js'
import { monotonicClock, type RateClock } from './clock.js'
import { Share } from './share.js'

export interface RateLimiterOptions {
  /** Of all together; 0 is no limit. */
  readonly bytesPerSecond?: number
  readonly clock?: RateClock
}

export class RateLimiter {
  readonly #clock: RateClock
  readonly #bucket: Bucket
  /** Those in which somebody waits. */
  readonly #waiting = new Set<Share>()
  /** Where on their scale the shares are that take part. */
  #position = 0
  #stopTimer: (() => void) | undefined

  constructor({ bytesPerSecond = 0, clock = monotonicClock }: RateLimiterOptions = {}) {
    this.#clock = clock
    this.#bucket = new Bucket(bytesPerSecond, clock.now())
  }

  /** A limit of 0 is none of its own. */
  share(bytesPerSecond = 0): Share {
    return new Share(bytesPerSecond, {
      isLimited: this.#bucket.isLimited,
      now: () => this.#clock.now(),
      changed: (share) => {
        if (share.isWaiting) this.#waiting.add(share)
        else this.#waiting.delete(share)
        this.#run()
      },
      refund: (share, size) => {
        this.#bucket.refund(size)
        share.bucket.refund(size)
        share.position -= size
        this.#run()
      },
    })
  }

  /** Grants what may be granted now, and comes again when there is more. No timer is left for nobody. */
  #run(): void {
    this.#stopTimer?.()
    this.#stopTimer = undefined
    const waitMs = this.#grantAll(this.#clock.now())
    if (waitMs === undefined) return
    this.#stopTimer = this.#clock.setTimer(Math.ceil(waitMs), () => this.#run())
  }

  /** Milliseconds until there is more to do; undefined when nobody waits. */
  #grantAll(now: number): number | undefined {
    while (this.#waiting.size > 0) {
      const waitMs = this.#bucket.waitMs(now)
      if (waitMs > 0) return waitMs
      const next = this.#next(now)
      if (typeof next === 'number') return next
      this.#grant(next)
    }
    return undefined
  }

  /** Who has had least of those whose own limit allows more, else milliseconds until there is one. */
  #next(now: number): Share | number {
    let next: Share | undefined
    let soonestMs = Infinity
    for (const share of this.#waiting) {
      const waitMs = share.bucket.waitMs(now)
      if (waitMs > 0) soonestMs = Math.min(soonestMs, waitMs)
      else if (next === undefined || share.position < next.position) next = share
    }
    return next ?? soonestMs
  }

  /** The more take part, the smaller the pieces: each has its turn as often. */
  #grant(share: Share): void {
    const most = Math.min(this.#bucket.grantSize(this.#waiting.size), share.bucket.grantSize(1))
    const size = share.grant(most)
    this.#bucket.charge(size)
    share.bucket.charge(size)
    // Who was away for a moment catches up; who was for long does not keep the others waiting for it.
    const start = Math.max(share.position, this.#position - this.#bucket.maxCredit)
    share.position = start + size
    this.#position = Math.max(this.#position, start)
    if (!share.isWaiting) this.#waiting.delete(share)
  }
}
