/** Sends a range of an image: the next chunks are read while one is being sent. */
import type { Backend } from '../backends/backend.js'
import {
  ImageTruncatedError,
  outcomeOf,
  valueOf,
  type ByteSink,
  type OperationContext,
  type Outcome,
} from './operation.js'

interface Chunk {
  readonly buffer: Buffer
  /** The bytes wanted of it. */
  readonly bytes: Buffer
  readonly offset: number
}

/**
 * Reads [offset, offset + size) and writes it to the sink, first after the first successful read,
 * so that storage that fails at once can still be told by a status. When it is aborted it rejects
 * as soon as a read in the kernel and a write of the sink have settled.
 */
export async function readRange(
  backend: Backend,
  offset: number,
  size: number,
  sink: ByteSink,
  context: OperationContext,
): Promise<void> {
  const { buffers, signal } = context
  signal.throwIfAborted()
  if (size === 0) return
  const held: [Buffer, ...Buffer[]] = [await buffers.acquire(signal)]
  try {
    const wanted = Math.min(1 + (backend.readsAhead ?? 1), Math.ceil(size / buffers.bufferSize))
    while (held.length < wanted) {
      const more = buffers.tryAcquire()
      if (more === undefined) break
      held.push(more)
    }
    await send(new ChunkReader(backend, offset, offset + size), held, sink, context)
  } finally {
    for (const buffer of held) buffers.release(buffer)
  }
}

/** When it settles neither a read nor the sink uses the buffers. */
async function send(
  reader: ChunkReader,
  [first, ...others]: readonly [Buffer, ...Buffer[]],
  sink: ByteSink,
  { signal, onProgress }: OperationContext,
): Promise<void> {
  const ahead: Promise<Outcome<Chunk | undefined>>[] = []
  const read = (buffer: Buffer) => ahead.push(outcomeOf(reader.next(buffer)))
  read(first)
  try {
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      const chunk = valueOf(await next)
      if (chunk === undefined) return
      signal.throwIfAborted()
      others.splice(0).forEach(read) // not before the first was read: it may be all that fails
      await sink.write(chunk.bytes)
      onProgress(chunk.offset, chunk.bytes.length)
      signal.throwIfAborted()
      read(chunk.buffer)
    }
  } finally {
    await Promise.all(ahead)
  }
}

/** Whole blocks around the range, so that direct I/O reads straight into the buffer. */
class ChunkReader {
  readonly #backend: Backend
  readonly #end: number
  #position: number

  constructor(backend: Backend, offset: number, end: number) {
    this.#backend = backend
    this.#position = offset
    this.#end = end
  }

  /** Undefined when the range is done. */
  async next(buffer: Buffer): Promise<Chunk | undefined> {
    const offset = this.#position
    if (offset >= this.#end) return undefined
    // A block larger than the buffer: the backend has to copy then.
    const alignment = Math.min(this.#backend.blockSize, buffer.length)
    const start = offset - (offset % alignment)
    const readEnd = Math.min(
      start + buffer.length - (buffer.length % alignment),
      Math.ceil(this.#end / alignment) * alignment,
    )
    const wantedEnd = Math.min(readEnd, this.#end)
    this.#position = wantedEnd
    const end = start + (await this.#backend.pread(buffer.subarray(0, readEnd - start), start))
    if (end < wantedEnd) throw new ImageTruncatedError(this.#end, end)
    return { buffer, bytes: buffer.subarray(offset - start, wantedEnd - start), offset }
  }
}
