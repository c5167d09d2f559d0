/** Zeroes a range in steps, so that cancel and progress stay live. */
import type { Backend } from '../backends/backend.js'
import type { OperationContext } from './operation.js'

/** Storage that has to write the zeroes itself takes about a second for this much. */
export const MAX_ZERO_STEP = 128 * 1024 * 1024

export async function zeroRange(
  backend: Backend,
  offset: number,
  size: number,
  { mayPunchHole }: { mayPunchHole: boolean },
  { signal, onProgress }: OperationContext,
): Promise<void> {
  const end = offset + size
  signal.throwIfAborted()
  for (let position = offset; position < end;) {
    // Steps end at multiples of the step: an unaligned head must not make every step unaligned.
    const boundary = position - (position % MAX_ZERO_STEP) + MAX_ZERO_STEP
    const step = Math.min(boundary, end) - position
    await backend.zero(position, step, { mayPunchHole, signal })
    onProgress(position, step)
    position += step
    signal.throwIfAborted()
  }
}
