/** Whether something went no faster than it may. A busy machine only makes it slower. */
import type { Test } from 'tap'

/** Milliseconds that a limit may be ahead of time, and bytes of the smallest grant. */
const AHEAD_MS = 150
const SMALLEST_GRANT = 1024

export async function notFasterThan(
  t: Test,
  name: string,
  bytesPerSecond: number,
  size: number,
  work: () => Promise<void>,
): Promise<void> {
  const startedAt = performance.now()
  await work()
  const ms = performance.now() - startedAt + AHEAD_MS
  const most = (bytesPerSecond * ms) / 1000 + SMALLEST_GRANT
  t.ok(size <= most, `${name}: ${size} bytes, at most ${Math.round(most)}`)
}
