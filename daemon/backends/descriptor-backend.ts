/** What regular files and block devices have in common. */
import { createHash } from 'node:crypto'
import {
  allocateAligned,
  closeDescriptor,
  fdatasync,
  type Digest,
  type FileStatus,
} from '../../native/index.js'
import type { AlignedIo } from './aligned-io.js'
import { roundDown, roundUp } from './alignment.js'
import type { Backend, Extent, ExtentContext, ImageFacts } from './backend.js'
import {
  DirtyExtentsUnavailableError,
  StorageError,
  StorageReadOnlyError,
  storageError,
} from './errors.js'
import { dataRangesOrData, zeroExtents } from './extents.js'
import type { ImageState, ImageStates, Writer } from './image-states.js'
import { MAX_ZERO_WRITE } from './zero.js'

export interface DescriptorBackendOptions {
  /** Owned by the backend from now on: closed by close(). */
  readonly io: AlignedIo
  readonly isWritable: boolean
  readonly maxConnections: number
  readonly images: ImageStates
  /** Acquired for this backend, released by close(). */
  readonly state: ImageState
  readonly writer?: Writer | undefined
}

export type CurrentStatus = Pick<FileStatus, 'size' | 'mtimeNs' | 'ctimeNs'>

export interface ZeroOptions {
  readonly mayPunchHole: boolean
  readonly signal?: AbortSignal
}

export abstract class DescriptorBackend implements Backend {
  abstract readonly name: string
  abstract readonly canGrow: boolean
  abstract readonly maxWriters: number
  readonly maxReaders: number
  readonly blockSize: number
  protected readonly io: AlignedIo
  protected readonly state: ImageState
  readonly #images: ImageStates
  readonly #isWritable: boolean
  readonly #writer: Writer | undefined
  #closing: Promise<void> | undefined
  #callsInFlight = 0
  #onIdle: () => void = () => undefined

  constructor(options: DescriptorBackendOptions) {
    this.io = options.io
    this.state = options.state
    this.blockSize = options.io.blockSize
    this.maxReaders = options.maxConnections
    this.#images = options.images
    this.#isWritable = options.isWritable
    this.#writer = options.writer
  }

  async size(): Promise<number> {
    return this.call(() => this.currentSize())
  }

  async facts(): Promise<ImageFacts> {
    const { state } = this
    const { generation } = state
    const isStill = !state.isMutating()
    const { size, mtimeNs, ctimeNs } = await this.call(() => this.currentStatus())
    if (!isStill || state.isMutating() || state.generation !== generation) {
      return { size, etag: undefined }
    }
    const facts = [this.#images.epoch, state.identity, generation, size, mtimeNs, ctimeNs]
    // Hashed: a tag goes to anyone who may read, inode numbers are nobody's business.
    const etag = createHash('sha256').update(facts.join(' ')).digest('base64url').slice(0, 27)
    return { size, etag }
  }

  async pread(buffer: Buffer, offset: number): Promise<number> {
    return this.call(() => this.io.read(buffer, offset))
  }

  async digest(
    digest: Digest,
    buffer: Buffer,
    offset: number,
    size: number,
  ): Promise<number | undefined> {
    return this.call(() => this.io.digest(digest, buffer, offset, size))
  }

  async pwrite(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    if (buffer.length === 0) return
    await this.change(async () => {
      await this.checkWithin(offset + buffer.length)
      await this.write(buffer, offset, signal)
    })
  }

  async zero(offset: number, size: number, options: ZeroOptions): Promise<void> {
    if (size === 0) return
    await this.change(async () => {
      await this.checkWithin(offset + size)
      await this.zeroWithin(offset, offset + size, options)
    })
  }

  async flush(): Promise<void> {
    await this.call(async () => {
      this.state.throwIfWritesLost()
      await this.state.flush(() => this.sync(this.descriptors()))
      // Another context's flush may have been the one that was told.
      this.state.throwIfWritesLost()
    })
  }

  async *extents(
    start: number,
    end: number,
    context: ExtentContext,
  ): AsyncGenerator<readonly Extent[]> {
    if (context === 'dirty') throw new DirtyExtentsUnavailableError()
    yield* zeroExtents(start, end, (from, to, limit) =>
      this.call(() => dataRangesOrData(this.io.fd, from, to, limit)),
    )
  }

  /** What failed is closed all the same (close(2)): the first who asks is told of it. */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing
    const closing = this.#close()
    this.#closing = closing
    closing.catch(() => (this.#closing = Promise.resolve()))
    return closing
  }

  /**
   * Callers have no call in flight. Should one err, its write must not hit what next gets the
   * descriptor's number: so wait.
   */
  async #close(): Promise<void> {
    if (this.#callsInFlight > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
    const results = await Promise.allSettled(this.descriptors().map((fd) => closeDescriptor(fd)))
    const failed = results.find((result) => result.status === 'rejected')
    // On network file systems close() tells of writes that were not stored.
    if (failed !== undefined) this.state.loseWrites(failed.reason)
    this.#images.release(this.state)
    if (failed !== undefined) throw storageError(failed.reason)
  }

  protected abstract currentSize(): Promise<number>

  protected abstract currentStatus(): Promise<CurrentStatus>

  /** Rejects when a write may not reach up to `end`. */
  protected abstract checkWithin(end: number): Promise<void>

  /** Writes a piece that does not fill its block, of which there is one. */
  protected abstract writeEdge(piece: Buffer, offset: number, signal?: AbortSignal): Promise<void>

  protected abstract zeroWithin(start: number, end: number, options: ZeroOptions): Promise<void>

  /** All that are open. */
  protected descriptors(): number[] {
    return [this.io.fd]
  }

  /** Head, whole blocks, tail. A block is only ever read and written back under its own lock. */
  protected async write(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    const { headEnd, tailStart } = splitAt(offset, offset + buffer.length, this.blockSize)
    const part = (start: number, end?: number) =>
      buffer.subarray(start - offset, end === undefined ? undefined : end - offset)
    if (headEnd > offset) await this.writeEdge(part(offset, headEnd), offset, signal)
    if (tailStart > headEnd) await this.#writeBlocks(part(headEnd, tailStart), headEnd, signal)
    if (tailStart < offset + buffer.length) await this.writeEdge(part(tailStart), tailStart, signal)
  }

  async #writeBlocks(blocks: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    // Shared: two writers of whole blocks don't harm each other, only one who rewrites bytes it
    // was not given must be alone.
    const release = await this.state.lock.acquire(offset, offset + blocks.length, 'shared', signal)
    try {
      await this.io.write(blocks, offset)
    } finally {
      release()
    }
  }

  protected async writeZeroes(start: number, end: number, signal?: AbortSignal): Promise<void> {
    if (start >= end) return
    const zeroes = allocateAligned(Math.min(MAX_ZERO_WRITE, end - start))
    for (let position = start; position < end;) {
      const boundary = roundDown(position + MAX_ZERO_WRITE, MAX_ZERO_WRITE)
      const size = Math.min(boundary, end, position + zeroes.length) - position
      await this.write(zeroes.subarray(0, size), position, signal)
      position += size
    }
  }

  /** fdatasync of each. A failure is final: see WritesLostError. */
  protected async sync(descriptors: readonly number[]): Promise<void> {
    for (const fd of descriptors) {
      try {
        await fdatasync(fd)
      } catch (error) {
        this.state.loseWrites(error)
        throw storageError(error)
      }
    }
  }

  /** All use of the descriptors happens inside. */
  protected async call<T>(action: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new StorageError('the image is closed')
    this.#callsInFlight++
    try {
      return await action()
    } catch (error) {
      throw storageError(error)
    } finally {
      this.#callsInFlight--
      if (this.#callsInFlight === 0) this.#onIdle()
    }
  }

  protected async change(change: () => Promise<void>): Promise<void> {
    if (!this.#isWritable) throw new StorageReadOnlyError()
    await this.call(() => this.state.mutate(change, this.#writer))
  }
}

/** Where the unaligned head of [start, end) ends and its unaligned tail starts. */
export function splitAt(
  start: number,
  end: number,
  alignment: number,
): { headEnd: number; tailStart: number } {
  const headEnd = Math.min(end, roundUp(start, alignment))
  return { headEnd, tailStart: Math.max(headEnd, roundDown(end, alignment)) }
}
