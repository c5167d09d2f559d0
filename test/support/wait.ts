/** Bounded waiting, so that no test hangs and none sleeps longer than it must. */
import { setTimeout as sleep } from 'node:timers/promises'

export { sleep }

/** Looks every `everyMs` until `condition` gives something else than undefined or false. */
export async function until<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  { timeoutMs = 5000, everyMs = 20 } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (value !== undefined && value !== false) return value
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(everyMs)
  }
}

/** The promise, or an error that names what did not come. */
export async function within<T>(what: string, timeoutMs: number, promise: Promise<T>): Promise<T> {
  const abort = new AbortController()
  const late = sleep(timeoutMs, undefined, { signal: abort.signal }).then(
    () => Promise.reject(new Error(`not within ${timeoutMs} ms: ${what}`)),
    () => new Promise<never>(() => undefined),
  )
  try {
    return await Promise.race([promise, late])
  } finally {
    abort.abort()
  }
}
