/**
 * Failed logins per address: after some, the address is slow. Memory is bounded; when it is full, the
 * oldest is forgotten, which only helps somebody who has that many addresses anyway.
 */
import { networkOf } from '../../../core/http/network.js'

export interface FailureLimits {
  /** So many in a window are free; a user mistypes, a program with an old password repeats. */
  readonly maxFailures: number
  readonly windowMs: number
  readonly maxAddresses: number
}

export const FAILURE_LIMITS: FailureLimits = {
  maxFailures: 10,
  windowMs: 60_000,
  maxAddresses: 10_000,
}

interface Window {
  count: number
  readonly endsAt: number
}

export class Failures {
  readonly #limits: FailureLimits
  readonly #now: () => number
  /** Oldest first. */
  readonly #windows = new Map<string, Window>()

  constructor(limits: FailureLimits, now: () => number) {
    this.#limits = limits
    this.#now = now
  }

  areTooMany(address: string): boolean {
    const window = this.#window(networkOf(address))
    return window !== undefined && window.count >= this.#limits.maxFailures
  }

  add(address: string): void {
    const key = networkOf(address)
    const window = this.#window(key)
    if (window !== undefined) {
      window.count++
      return
    }
    this.#windows.set(key, { count: 1, endsAt: this.#now() + this.#limits.windowMs })
    const [oldest] = this.#windows.keys()
    if (this.#windows.size > this.#limits.maxAddresses && oldest !== undefined) {
      this.#windows.delete(oldest)
    }
  }

  #window(key: string): Window | undefined {
    const window = this.#windows.get(key)
    if (window === undefined || window.endsAt > this.#now()) return window
    this.#windows.delete(key)
    return undefined
  }
}
