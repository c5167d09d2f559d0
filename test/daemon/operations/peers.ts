/** Sources, sinks and contexts for tests of operations. */
import { BufferPool } from '../../../daemon/operations/buffer-pool.js'
import type {
  ByteSink,
  ByteSource,
  OperationContext,
} from '../../../daemon/operations/operation.js'

export const KiB = 1024
export const MiB = 1024 * KiB

/** A body that arrives in pieces of this size and may fail at its end. */
export class PiecesSource implements ByteSource {
  position = 0
  readonly #body: Buffer
  readonly #piece: number
  readonly #failure: Error | undefined

  constructor(body: Buffer, piece: number, failure?: Error) {
    this.#body = body
    this.#piece = piece
    this.#failure = failure
  }

  async read(target: Buffer): Promise<number> {
    await turn()
    const end = Math.min(this.position + this.#piece, this.#body.length)
    const size = this.#body.copy(target, 0, this.position, end)
    if (size === 0 && this.#failure !== undefined) throw this.#failure
    this.position += size
    return size
  }
}

/** Keeps what it gets; each chunk's memory is read only when the write settles. */
export class CollectingSink implements ByteSink {
  readonly chunks: Buffer[] = []
  /** Called before a chunk is taken. */
  before: (chunk: Buffer) => Promise<void> = () => turn()

  async write(chunk: Buffer): Promise<void> {
    await this.before(chunk)
    this.chunks.push(Buffer.from(chunk))
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks)
  }
}

export interface TestContext extends OperationContext {
  readonly abort: AbortController
  readonly progress: [offset: number, size: number][]
}

export function contextWith({
  bufferSize = 16 * KiB,
  count = 4,
}: { bufferSize?: number; count?: number } = {}): TestContext {
  const abort = new AbortController()
  const progress: [number, number][] = []
  return {
    abort,
    signal: abort.signal,
    progress,
    onProgress: (offset, size) => progress.push([offset, size]),
    buffers: new BufferPool({ bufferSize, maxBytes: count * bufferSize, waitTimeoutMs: 50 }),
  }
}

/** Whether progress covers [offset, offset + size) in order and without gaps. */
export function covers({ progress }: TestContext, offset: number, size: number): boolean {
  let position = offset
  for (const [start, length] of progress) {
    if (start !== position || length <= 0) return false
    position += length
  }
  return position === offset + size
}

export const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
