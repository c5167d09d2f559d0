/** Stores a body: one buffer is filled while the one before is being written. */
import type { Backend } from '../backends/backend.js'
import {
  RangeLimitError,
  ShortBodyError,
  chunkSize,
  outcomeOf,
  valueOf,
  type ByteSource,
  type OperationContext,
  type Outcome,
} from './operation.js'

export interface WriteContext extends OperationContext {
  /** Bytes that may be written at most; needed for a body whose size is not known. */
  readonly limit?: number
  /** Called when all is written and before it is flushed. */
  readonly onEnd?: () => Promise<void>
  /** Called at the end, unless the bytes are on stable storage already. */
  readonly flush?: () => Promise<void>
}

/**
 * Writes `size` bytes of the source at `offset`, or all of them when size is undefined; resolves
 * with their number. When the body ends early or the peer is lost, what came is written and told
 * by onProgress before it rejects, and not flushed. When it is aborted nothing more is written.
 */
export async function writeRange(
  backend: Backend,
  offset: number,
  size: number | undefined,
  source: ByteSource,
  context: WriteContext,
): Promise<number> {
  const { buffers, signal, limit = Infinity, onEnd, flush } = context
  signal.throwIfAborted()
  if (size !== undefined && size > limit) throw new RangeLimitError(limit)
  if (size === 0) {
    await onEnd?.()
    await flush?.()
    return 0
  }
  const first = await buffers.acquire(signal)
  const second = (size ?? Infinity) > buffers.bufferSize ? buffers.tryAcquire() : undefined
  const writer = new Writer(backend, offset, size, context)
  try {
    const end = offset + (size ?? limit)
    await receive(writer, end, source, [first, second ?? first], context)
    if (size === undefined) await expectEnd(source, writer, end, limit)
    else if (writer.taken < end) throw new ShortBodyError(size, writer.taken - offset)
    await onEnd?.()
    if (!writer.isStable) await flush?.()
    return writer.taken - offset
  } finally {
    await source.drop?.()
    buffers.release(first)
    if (second !== undefined) buffers.release(second)
  }
}

/** When it settles no write uses the buffers, and the source only what it was told ahead. */
async function receive(
  writer: Writer,
  end: number,
  source: ByteSource,
  [even, odd]: readonly [Buffer, Buffer],
  { signal, buffers }: OperationContext,
): Promise<void> {
  const { bufferSize } = buffers
  const { blockSize } = writer.backend
  const chunkAt = (buffer: Buffer, offset: number): Buffer =>
    buffer.subarray(0, chunkSize(offset, end, { blockSize, bufferSize }))
  let buffer = even
  let failure: Outcome<never> | undefined
  while (writer.taken < end && failure === undefined) {
    if (even === odd) await writer.settle()
    const chunk = chunkAt(buffer, writer.taken)
    const filling = fill(chunk, source, () => signal.aborted || writer.hasFailed)
    const next = writer.taken + chunk.length
    const other = buffer === even ? odd : even
    if (other !== buffer && next < end)
      writer.onceWritten(() => source.ahead?.(chunkAt(other, next)))
    const { filled, error } = await filling
    if (error !== undefined) failure = { error }
    await writer.settle()
    signal.throwIfAborted()
    if (filled > 0) writer.start(chunk.subarray(0, filled))
    if (filled < chunk.length) break
    buffer = other
  }
  await writer.settle()
  if (failure !== undefined) valueOf(failure)
}

/** Fills the chunk; stops early at the end of the body, at an error, or when it is told to. */
async function fill(
  chunk: Buffer,
  source: ByteSource,
  isFutile: () => boolean,
): Promise<{ filled: number; error?: unknown }> {
  let filled = 0
  try {
    while (filled < chunk.length && !isFutile()) {
      const received = await source.read(chunk.subarray(filled))
      if (received === 0) break
      filled += received
    }
    return { filled }
  } catch (error) {
    return { filled, error: error ?? new Error('the source failed') }
  }
}

/** A body of unknown size that reaches the limit must end there. */
async function expectEnd(
  source: ByteSource,
  writer: Writer,
  end: number,
  limit: number,
): Promise<void> {
  if (writer.taken < end) return
  if ((await source.read(Buffer.alloc(1))) > 0) throw new RangeLimitError(limit)
}

/** At most one write in flight, so progress is told in order. */
class Writer {
  readonly backend: Backend
  /** Offset behind the last byte handed over. */
  taken: number
  hasFailed = false
  /** All of the body was written in one piece that needs no flush. */
  isStable = false
  readonly #size: number | undefined
  readonly #context: WriteContext
  #inFlight: Promise<Outcome<void>> | undefined

  constructor(backend: Backend, offset: number, size: number | undefined, context: WriteContext) {
    this.backend = backend
    this.taken = offset
    this.#size = size
    this.#context = context
  }

  /** The bytes belong to the writer until settle(). */
  start(bytes: Buffer): void {
    const offset = this.taken
    this.taken += bytes.length
    this.#inFlight = outcomeOf(this.#write(bytes, offset))
  }

  async #write(bytes: Buffer, offset: number): Promise<void> {
    try {
      this.isStable = await this.#writeStable(bytes, offset)
      if (!this.isStable) await this.backend.pwrite(bytes, offset, this.#context.signal)
    } catch (error) {
      this.hasFailed = true
      throw error
    }
    this.#context.onProgress(offset, bytes.length)
  }

  async #writeStable(bytes: Buffer, offset: number): Promise<boolean> {
    const { flush, signal } = this.#context
    const isAll = bytes.length === this.#size && flush !== undefined
    return isAll && (await this.backend.pwriteStable?.(bytes, offset, signal)) === true
  }

  /** Calls back when no write is in flight, and before settle() resolves, unless one has failed. */
  onceWritten(callback: () => void): void {
    const call = (): void => {
      if (!this.hasFailed) callback()
    }
    if (this.#inFlight === undefined) call()
    else void this.#inFlight.then(call)
  }

  /** Waits for the write in flight; throws its error. */
  async settle(): Promise<void> {
    const inFlight = this.#inFlight
    this.#inFlight = undefined
    if (inFlight !== undefined) valueOf(await inFlight)
  }
}
