/** Whether the native front stands before the data services (docs/transport.md). */
import { availableParallelism } from 'node:os'
import { MISSING_SYMBOL } from '../../native/index.js'
import { Transport } from '../../native/transport.js'
import type { Logger } from '../log.js'

export interface TransportOptions {
  readonly native: 'auto' | 'on' | 'off'
  /** 0 is one for each core. */
  readonly threads: number
}

/** More than eight wait for the network or the storage. */
const MAX_THREADS = 8

/**
 * With `auto` a front that cannot be had is done without, and the log says why; with `on` that is an
 * error. `missing` is what the addon does not find in this Node.
 */
export function openTransport(
  { native, threads }: TransportOptions,
  logger: Logger,
  missing = MISSING_SYMBOL,
): Transport | undefined {
  if (native === 'off') return undefined
  try {
    if (missing !== undefined) throw new Error(missing)
    return new Transport(threads > 0 ? threads : Math.min(availableParallelism(), MAX_THREADS))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    if (native === 'on') throw new Error(`the native front cannot be used: ${reason}`, { cause })
    logger.warn({ reason }, 'the native front cannot be used, and bodies go the plain way')
    return undefined
  }
}
