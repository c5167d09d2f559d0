/** Whether the native front stands before the data services (docs/transport.md). */
import { availableParallelism } from 'node:os'
import { MISSING_SYMBOL } from '../../native/index.js'
import { Transport } from '../../native/transport.js'
import type { Logger } from '../log.js'

export type TransportChoice = 'auto' | 'on' | 'off'

/** One for each core; more than eight wait for the network or the storage. */
const THREADS = Math.min(availableParallelism(), 8)

/**
 * With `auto` a front that cannot be had is done without, and the log says why; with `on` that is an
 * error. `missing` is what the addon does not find in this Node.
 */
export function openTransport(
  choice: TransportChoice,
  logger: Logger,
  missing = MISSING_SYMBOL,
): Transport | undefined {
  if (choice === 'off') return undefined
  try {
    if (missing !== undefined) throw new Error(missing)
    return new Transport(THREADS)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    if (choice === 'on') throw new Error(`the native front cannot be used: ${reason}`, { cause })
    logger.warn({ reason }, 'the native front cannot be used, and bodies go the plain way')
    return undefined
  }
}
