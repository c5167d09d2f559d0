/** Time and timers of rates, so that tests can let minutes pass at once. */
export interface RateClock {
  /** Milliseconds that never go back, with an arbitrary origin. */
  now(): number
  /** Calls back once after so many milliseconds, unless what it returns is called before. */
  setTimer(ms: number, callback: () => void): () => void
}

export const monotonicClock: RateClock = {
  now: () => performance.now(),
  setTimer: (ms, callback) => {
    const timer = setTimeout(callback, ms)
    return () => clearTimeout(timer)
  },
}
