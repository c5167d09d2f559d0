/** Sources, sinks and contexts for tests of operations. */
import { BufferPool } from '../../../core/buffer-pool.js'
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

/** Fills what it is told of ahead some turns later by itself, as the native front does. */
export class AheadSource implements ByteSource {
  /** Memory that is being filled, or was and is not taken yet. */
  readonly held = new Set<Buffer>()
  /** How often something was told ahead and then read. */
  hits = 0
  readonly #source: PiecesSource
  #ahead: { readonly target: Buffer; readonly read: Promise<number> } | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(body: Buffer, failure?: Error) {
    this.#source = new PiecesSource(body, body.length, failure)
  }

  async read(target: Buffer): Promise<number> {
    const ahead = this.#ahead
    if (ahead === undefined) return this.#fill(target)
    const isSame = ahead.target.byteOffset === target.byteOffset
    // The read before was the last with anything in it.
    if (!isSame || ahead.target.length !== target.length) return this.#fill(target)
    this.#ahead = undefined
    this.hits++
    return ahead.read
  }

  ahead(target: Buffer): void {
    if (this.#ahead !== undefined) throw new Error('one was told already')
    const read = this.#fill(target)
    read.catch(() => undefined)
    this.#ahead = { target, read }
  }

  async drop(): Promise<void> {
    await this.#ahead?.read.catch(() => undefined)
    this.#ahead = undefined
  }

  #fill(target: Buffer): Promise<number> {
    this.held.add(target)
    const read = this.#last.then(() => this.#source.read(target))
    this.#last = read.catch(() => undefined)
    return read.finally(() => this.held.delete(target))
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
  waitTimeoutMs = 50,
}: { bufferSize?: number; count?: number; waitTimeoutMs?: number } = {}): TestContext {
  const abort = new AbortController()
  const progress: [number, number][] = []
  return {
    abort,
    signal: abort.signal,
    progress,
    onProgress: (offset, size) => progress.push([offset, size]),
    buffers: new BufferPool({ bufferSize, maxBytes: count * bufferSize, waitTimeoutMs }),
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
