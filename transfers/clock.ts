/** Time and timers, so that tests can let minutes pass at once. */
export interface Clock {
  /** Milliseconds of the wall clock, which somebody may set: for what is stored and shown. */
  now(): number
  /** Milliseconds since some moment, of a clock that nobody sets: for how long something takes. */
  elapsed(): number
  /** Calls back once after so many milliseconds, unless what it returns is called before. */
  setTimer(ms: number, callback: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  setTimer: (ms, callback) => {
    const timer = setTimeout(callback, ms)
    return () => clearTimeout(timer)
  },
}
