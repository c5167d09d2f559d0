/**
 * What one ticket may have of the rate: its own limit, and its part of what all share, however many
 * connections it has. Who takes waits in line here; whose turn it is the limiter decides.
 */
import { Bucket } from './bucket.js'
import type { Pace } from './pace.js'

/** What a share needs of the limiter. */
export interface Scheduler {
  /** Whether there is a limit for all. */
  readonly isLimited: boolean
  now(): number
  /** Somebody waits, or need not any more. */
  changed(share: Share): void
  refund(share: Share, size: number): void
}

interface Waiter {
  readonly upTo: number
  readonly resolve: (size: number) => void
  readonly reject: (reason: Error) => void
}

export class Share implements Pace {
  readonly bucket: Bucket
  /** For the limiter: bytes it was granted, on a scale common to all shares. */
  position = 0
  readonly #scheduler: Scheduler
  readonly #waiting = new Set<Waiter>()
  #ended: { readonly reason: Error } | undefined

  constructor(bytesPerSecond: number, scheduler: Scheduler) {
    this.bucket = new Bucket(bytesPerSecond, scheduler.now())
    this.#scheduler = scheduler
  }

  get isLimited(): boolean {
    return this.bucket.isLimited || this.#scheduler.isLimited
  }

  /** Its own limit; 0 is none. */
  get bytesPerSecond(): number {
    return this.bucket.bytesPerSecond
  }

  get isWaiting(): boolean {
    return this.#waiting.size > 0
  }

  take(upTo: number, signal: AbortSignal): Promise<number> {
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    if (this.#ended !== undefined) return Promise.reject(this.#ended.reason)
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        signal.removeEventListener('abort', abort)
        this.#waiting.delete(waiter)
      }
      const abort = (): void => {
        waiter.reject(signal.reason as Error)
        this.#scheduler.changed(this)
      }
      const waiter: Waiter = {
        upTo,
        resolve: (size) => {
          leave()
          resolve(size)
        },
        reject: (reason) => {
          leave()
          reject(reason)
        },
      }
      signal.addEventListener('abort', abort)
      this.#waiting.add(waiter)
      this.#scheduler.changed(this)
    })
  }

  giveBack(size: number): void {
    if (size > 0) this.#scheduler.refund(this, size)
  }

  /** Also for those who wait already. */
  setRate(bytesPerSecond: number): void {
    this.bucket.setRate(bytesPerSecond, this.#scheduler.now())
    this.#scheduler.changed(this)
  }

  /** Nobody waits any more, or will. */
  end(reason: Error): void {
    this.#ended ??= { reason }
    for (const waiter of this.#waiting) waiter.reject(this.#ended.reason)
    this.#scheduler.changed(this)
  }

  /** For the limiter: lets the first in line have `most` bytes, or as few as it wants. */
  grant(most: number): number {
    for (const waiter of this.#waiting) {
      const size = Math.min(waiter.upTo, most)
      waiter.resolve(size)
      return size
    }
    return 0
  }
}
