/** What one request's work needs from outside, and knows of it: no HTTP, no tickets. */
import type { BufferPool } from '../../core/buffer-pool.js'
import { ServiceError } from '../../core/errors.js'

export interface ByteSource {
  /**
   * Fills up to target.length bytes from its start; 0 only at the end of the body. `target` may be
   * a slice and belongs to the source until the promise settles, also when that rejects. Rejects
   * when the peer goes or the operation is aborted: an operation waits for it without a limit.
   */
  read(target: Buffer): Promise<number>
  /**
   * The next read but the one that is open will be of this target; it may be filled from now on, and
   * belongs to the source until that read or drop() has settled. When the open read does not fill its
   * target there is no such read. Absent where all of this is of no use.
   */
  ahead?(target: Buffer): void
  /** What ahead() announced is not read; resolves when its memory is free. */
  drop?(): Promise<void>
}

export interface ByteSink {
  /**
   * Resolves when the chunk was taken over and its memory may be reused. The memory belongs to the
   * sink until the promise settles, so it must also not reject while the chunk is still in use.
   * It has to reject when the operation is aborted: an operation waits for it without a limit.
   */
  write(chunk: Buffer): Promise<void>
}

export interface OperationContext {
  /** Aborted by cancel and by the loss of the client. No call is made to the storage after that. */
  readonly signal: AbortSignal
  /** Bytes [offset, offset + size) of the image are done: sent, written or zeroed. In order. */
  readonly onProgress: (offset: number, size: number) => void
  readonly buffers: BufferPool
}

/** The image ended before the range did: someone made it shorter. */
export class ImageTruncatedError extends ServiceError {
  readonly code = 'ERR_IMAGE_TRUNCATED'
  readonly statusCode = 500
  readonly expectedEnd: number
  readonly end: number
  constructor(expectedEnd: number, end: number) {
    super(`the image ends at ${end}, before the end of the range at ${expectedEnd}`)
    this.expectedEnd = expectedEnd
    this.end = end
  }
}

/** The body ended before as many bytes came as were promised. */
export class ShortBodyError extends ServiceError {
  readonly code = 'ERR_SHORT_BODY'
  readonly statusCode = 400
  readonly expected: number
  readonly received: number
  constructor(expected: number, received: number) {
    super(`the body ended after ${received} of ${expected} bytes`)
    this.expected = expected
    this.received = received
  }
}

/** The body is longer than what may be written. Bytes up to the limit are written. */
export class RangeLimitError extends ServiceError {
  readonly code = 'ERR_RANGE_LIMIT'
  readonly statusCode = 416
  readonly limit: number
  constructor(limit: number) {
    super(`the body is longer than the ${limit} bytes that may be written at its offset`)
    this.limit = limit
  }
}

/** Chunks start and end at multiples of this, or of the block size where that is larger. */
const MIN_CHUNK_ALIGNMENT = 4096

/**
 * Size of the next chunk of [offset, end): up to the next boundary when offset is none, else as
 * many whole blocks as a buffer holds. So all but the head and the tail are whole blocks.
 */
export function chunkSize(
  offset: number,
  end: number,
  { blockSize, bufferSize }: { blockSize: number; bufferSize: number },
): number {
  const alignment = Math.min(Math.max(blockSize, MIN_CHUNK_ALIGNMENT), bufferSize)
  const head = offset % alignment
  const size = head > 0 ? alignment - head : bufferSize - (bufferSize % alignment)
  return Math.min(size, end - offset)
}

/** How a promise ended, once it has: to be looked at later without an unhandled rejection. */
export type Outcome<T> = { readonly value: T } | { readonly error: unknown }

export function outcomeOf<T>(promise: Promise<T>): Promise<Outcome<T>> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
}

/** The value, or throws the error. */
export function valueOf<T>(outcome: Outcome<T>): T {
  if ('error' in outcome) throw outcome.error
  return outcome.value
}
