/** Whether the native front stands before the data services (docs/transport.md). */
import { availableParallelism } from 'node:os'
import { MISSING_SYMBOL } from '../../native/index.js'
import { Transport } from '../../native/transport.js'
import type { Logger } from '../log.js'
import { reasonOf } from './host-checks.js'

export interface TransportOptions {
  readonly native: 'auto' | 'on' | 'off'
  /** 0 is one for each core. */
  readonly threads: number
}

/** More than eight wait for the network or the storage. */
const MAX_THREADS = 8

/**
 * With `auto` a front that cannot be had is done without, with `on` that is an error; the log says which
 * it is. `missing` is what the addon does not find in this Node.
 */
export function openTransport(
  options: TransportOptions,
  logger: Logger,
  missing = MISSING_SYMBOL,
): Transport | undefined {
  const { native } = options
  if (native === 'off') {
    logger.info('the native front is off: bodies go the plain way')
    return undefined
  }
  try {
    const threads = threadsOf(options)
    const transport = start(threads, missing)
    logger.info({ threads }, 'bodies go through the native front')
    return transport
  } catch (cause) {
    const reason = reasonOf(cause)
    if (native === 'on') throw new Error(cannotBeUsed(reason), { cause })
    logger.warn({ reason }, 'the native front cannot be used, and bodies go the plain way')
    return undefined
  }
}

/** Why a server that is started now would have no front, though it is not off. */
export function faultOfTransport(
  options: TransportOptions,
  missing = MISSING_SYMBOL,
): string | undefined {
  if (options.native === 'off') return undefined
  try {
    start(threadsOf(options), missing).close()
    return undefined
  } catch (error) {
    return cannotBeUsed(reasonOf(error))
  }
}

function start(threads: number, missing: string | undefined): Transport {
  if (missing !== undefined) throw new Error(missing)
  return new Transport(threads)
}

function threadsOf({ threads }: TransportOptions): number {
  return threads > 0 ? threads : Math.min(availableParallelism(), MAX_THREADS)
}

function cannotBeUsed(reason: string): string {
  return `the native front cannot be used: ${reason}`
}
