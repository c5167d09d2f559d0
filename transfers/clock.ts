/** Time and timers, so that tests can let minutes pass at once. */
export interface Clock {
  /** Milliseconds of the wall clock. */
  now(): number
  /** Calls back once after so many milliseconds, unless what it returns is called before. */
  setTimer(ms: number, callback: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimer: (ms, callback) => {
    const timer = setTimeout(callback, ms)
    return () => clearTimeout(timer)
  },
}
