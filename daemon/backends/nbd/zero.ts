/** Ways to make whole blocks of an export read as zeroes, best first. */
import { MiB } from '../../../core/units.js'
import { MAX_ZERO_WRITE } from '../zero.js'
import { isUnsupported } from './errors.js'
import { FAST_ZERO, NO_HOLE, SEND_FAST_ZERO, SEND_WRITE_ZEROES } from './protocol.js'

/** What a server zeroes as slowly as it writes: a piece must be done well before the deadline. */
const MAX_SLOW_ZERO = 8 * MiB

export interface ZeroTarget {
  /** Transmission flags. */
  readonly flags: number
  /** Bytes of data in one request. */
  readonly maxRequest: number
  /** What the server turned out not to know, remembered for the image. */
  readonly refused: Set<string>
  /** WRITE_ZEROES; resolves when it is acknowledged. */
  readonly zero: (offset: number, size: number, flags: number) => Promise<void>
  readonly write: (bytes: Buffer, offset: number) => Promise<void>
}

export interface ZeroOptions {
  readonly mayPunchHole: boolean
  readonly signal?: AbortSignal
}

/**
 * All at once where that is fast; else in pieces, by the server itself or by writing. A server that
 * cannot tell how fast it is gets all at once.
 */
export async function zeroBlocks(
  start: number,
  end: number,
  { mayPunchHole, signal }: ZeroOptions,
  { flags, maxRequest, refused, zero, write }: ZeroTarget,
): Promise<void> {
  const inPieces = async (step: number, change: (at: number, size: number) => Promise<void>) => {
    for (let from = start; from < end; from += step) {
      signal?.throwIfAborted()
      await change(from, Math.min(step, end - from))
    }
  }
  const knows = (name: string, step: number, more: number): Promise<boolean> =>
    unlessRefused(refused, `${name} ${more}`, () =>
      inPieces(step, (from, size) => zero(from, size, more)),
    )
  const hole = mayPunchHole ? 0 : NO_HOLE
  const canBeFast = (flags & SEND_FAST_ZERO) !== 0
  if ((flags & SEND_WRITE_ZEROES) !== 0) {
    if (canBeFast && (await knows('fast-zero', Infinity, hole | FAST_ZERO))) return
    if (await knows('write-zeroes', canBeFast ? MAX_SLOW_ZERO : Infinity, hole)) return
  }
  const zeroes = Buffer.alloc(Math.min(MAX_ZERO_WRITE, maxRequest, end - start))
  await inPieces(zeroes.length, (from, size) => write(zeroes.subarray(0, size), from))
}

/** False when the server does not know it. */
async function unlessRefused(
  refused: Set<string>,
  name: string,
  change: () => Promise<void>,
): Promise<boolean> {
  if (refused.has(name)) return false
  try {
    await change()
    return true
  } catch (error) {
    if (!isUnsupported(error)) throw error
    refused.add(name)
    return false
  }
}
