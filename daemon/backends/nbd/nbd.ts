/**
 * An export of an NBD server. Where the server has a minimum block size, bytes that do not fill a
 * block are read, changed and written back under an exclusive lock, and whole blocks are written
 * under a shared one (see range-lock.ts); without one, no write touches what it was not given.
 */
import { KiB } from '../../../core/units.js'
import { roundDown } from '../alignment.js'
import type { Backend, Extent, ExtentContext, ImageFacts } from '../backend.js'
import { splitAt } from '../descriptor-backend.js'
import { BeyondEndError, StorageError, StorageReadOnlyError } from '../errors.js'
import type { ImageState, ImageStates } from '../image-states.js'
import { UnflushedWrites } from '../unflushed.js'
import type { NbdConnection } from './connection.js'
import { nbdError } from './errors.js'
import { nbdExtents } from './extents.js'
import { FUA, READ_ONLY, SEND_FLUSH, SEND_FUA } from './protocol.js'
import { zeroBlocks, type ZeroOptions } from './zero.js'

export interface NbdBackendOptions {
  /** Closed by close(). */
  readonly connection: NbdConnection
  readonly isWritable: boolean
  readonly maxConnections: number
  /** Bytes of data in one request to the server. */
  readonly maxRequest: number
  readonly images: ImageStates
  /** Acquired for this backend, released by close(). */
  readonly state: ImageState
  /**
   * ImageStates.now before the connection was begun: who starts over afterwards has nothing to do with
   * what was lost before.
   */
  readonly openedAt: number
  /** The server went away with writes that were acknowledged and never flushed. */
  readonly onWritesLost: (cause: unknown) => void
}

/**
 * Data goes in pieces of this size, all of them in flight at once: the server reads or writes one from
 * its storage while another is on the socket. With one request for all of 1 MiB they take turns, which
 * cost a fifth of the throughput from qemu-nbd; smaller pieces cost CPU on both sides, those of 256 KiB a
 * tenth.
 *
 * The first one of a connection is as large as it can be, for the sake of qemu-nbd and the C library:
 * its allocator gives memory back to the kernel, to fetch it anew with the next request, until it has
 * seen a larger block freed. That made qemu-nbd's part of a download three times as expensive.
 */
const PIECE_SIZE = 512 * KiB

/**
 * A server's answer passes two processes, and with one chunk ahead either waits for the other now and
 * then. Three, with pieces of 512 instead of 256 KiB, gave a single download over a Unix socket a quarter
 * more; each of the two alone gave less than a tenth.
 */
const READS_AHEAD = 3

/** Requests of one call in flight: a server that takes only small ones must not be sent thousands. */
const MAX_IN_FLIGHT = 16

export class NbdBackend implements Backend {
  readonly name = 'nbd'
  readonly canGrow = false
  readonly readsAhead = READS_AHEAD
  readonly blockSize: number
  readonly maxReaders: number
  readonly maxWriters: number
  readonly #connection: NbdConnection
  readonly #options: NbdBackendOptions
  readonly #size: number
  readonly #maxRequest: number
  readonly #pieceSize: number
  readonly #unflushed: UnflushedWrites
  /** A large piece was sent. */
  #isWarm = false
  #closing: Promise<void> | undefined

  constructor(options: NbdBackendOptions) {
    const { connection, maxConnections, maxRequest, state } = options
    const { size, blockSizes } = connection.facts
    this.#connection = connection
    this.#options = options
    this.#size = size
    this.blockSize = blockSizes.minimum
    this.maxReaders = maxConnections
    this.maxWriters = maxConnections
    const largest = Math.min(blockSizes.maximum, maxRequest)
    this.#maxRequest = Math.max(this.blockSize, roundDown(largest, this.blockSize))
    this.#pieceSize = Math.min(this.#maxRequest, PIECE_SIZE)
    this.#unflushed = new UnflushedWrites(
      state.connections,
      () => connection.flush(),
      (cause) => this.#loseWrites(cause),
    )
    connection.onChanged = () => {
      if (this.#has(SEND_FLUSH)) this.#unflushed.add()
    }
    connection.onFailure = (error) => {
      void this.#unflushed.end()
      this.#unflushed.lose(error)
    }
  }

  get isGone(): boolean {
    return this.#connection.failure !== undefined
  }

  size(): Promise<number> {
    return Promise.resolve(this.#size)
  }

  /** Others may write to the export whenever they like. */
  facts(): Promise<ImageFacts> {
    return Promise.resolve({ size: this.#size, etag: undefined })
  }

  async pread(buffer: Buffer, offset: number): Promise<number> {
    const wanted = Math.min(buffer.length, Math.max(0, this.#size - offset))
    if (wanted === 0) return 0
    await this.#call(() => this.#read(buffer.subarray(0, wanted), offset))
    return wanted
  }

  async pwrite(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    if (buffer.length === 0) return
    await this.#change(offset + buffer.length, () => this.#write(buffer, offset, signal))
  }

  /**
   * One request instead of two where the server can do both at once. Only this write is covered, so
   * it is for when nothing else waits for a flush; the first flush of a connection is a real one, for
   * what another process may have written.
   */
  async pwriteStable(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<boolean> {
    const end = offset + buffer.length
    const { headEnd, tailStart } = splitAt(offset, end, this.blockSize)
    const isWhole = headEnd === offset && (tailStart === end || end === this.#size)
    const fits = buffer.length > 0 && buffer.length <= this.#pieceSize
    const { state } = this.#options
    state.throwIfWritesLost(this.#options.openedAt)
    if (!isWhole || !fits || !this.#has(SEND_FUA) || !this.#unflushed.isClean) return false
    await this.#change(end, () =>
      this.#locked(offset, end, 'shared', signal, () =>
        this.#connection.write(buffer, offset, FUA),
      ),
    )
    state.throwIfWritesLost(this.#options.openedAt)
    return true
  }

  async zero(offset: number, size: number, options: ZeroOptions): Promise<void> {
    if (size === 0) return
    await this.#change(offset + size, () => this.#zero(offset, offset + size, options))
  }

  /** A server that cannot flush has nothing to flush. */
  async flush(): Promise<void> {
    const { state } = this.#options
    state.throwIfWritesLost(this.#options.openedAt)
    if (!this.#has(SEND_FLUSH)) return
    await this.#call(() => this.#unflushed.flush())
    state.throwIfWritesLost(this.#options.openedAt)
  }

  async *extents(
    start: number,
    end: number,
    context: ExtentContext,
  ): AsyncGenerator<readonly Extent[]> {
    const ask = (offset: number, length: number) =>
      this.#call(() => this.#connection.blockStatus(offset, length))
    yield* nbdExtents(start, end, context, this.#connection.facts, ask)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Afterwards the server may vanish without anybody being told, so what was written goes first. */
  async #close(): Promise<void> {
    const { images, state } = this.#options
    if (this.#unflushed.isPending && !this.isGone) {
      await this.#unflushed.flushOwn().catch((error: unknown) => this.#unflushed.lose(error))
    }
    // A flush of the image that goes over this connection must not be cut.
    await this.#unflushed.end()
    await this.#connection.close()
    images.release(state)
  }

  #loseWrites(cause: unknown): void {
    this.#options.state.loseWrites(cause)
    this.#options.onWritesLost(cause)
  }

  async #read(buffer: Buffer, offset: number): Promise<void> {
    const end = offset + buffer.length
    const { headEnd, tailStart } = splitAt(offset, end, this.blockSize)
    // The last block of an export that is no multiple of its blocks is shorter.
    const isTail = tailStart < end && end < this.#size
    const middleEnd = isTail ? tailStart : end
    if (headEnd > offset) await this.#readEdge(buffer.subarray(0, headEnd - offset), offset)
    if (middleEnd > headEnd) {
      await this.#inPieces(headEnd, middleEnd, (from, to) =>
        this.#connection.read(buffer.subarray(from - offset, to - offset), from),
      )
    }
    if (isTail && tailStart >= headEnd) {
      await this.#readEdge(buffer.subarray(tailStart - offset), tailStart)
    }
  }

  async #readEdge(piece: Buffer, offset: number): Promise<void> {
    const block = await this.#readBlock(offset)
    block.copy(piece, 0, offset % this.blockSize)
  }

  async #readBlock(offset: number): Promise<Buffer> {
    const start = roundDown(offset, this.blockSize)
    const block = Buffer.allocUnsafe(Math.min(this.blockSize, this.#size - start))
    await this.#connection.read(block, start)
    return block
  }

  async #write(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    const end = offset + buffer.length
    const part = (from: number, to: number) => buffer.subarray(from - offset, to - offset)
    await this.#inBlocks(offset, end, {
      edge: (from, to) => this.#writeEdge(part(from, to), from, signal),
      blocks: (from, to) =>
        this.#locked(from, to, 'shared', signal, () =>
          this.#inPieces(from, to, (start, stop) => this.#send(part(start, stop), start)),
        ),
    })
  }

  #writeEdge(piece: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    const start = roundDown(offset, this.blockSize)
    return this.#locked(start, start + this.blockSize, 'exclusive', signal, async () => {
      const block = await this.#readBlock(offset)
      piece.copy(block, offset - start)
      await this.#send(block, start)
    })
  }

  async #zero(start: number, end: number, options: ZeroOptions): Promise<void> {
    const { signal } = options
    await this.#inBlocks(start, end, {
      edge: (from, to) => this.#writeEdge(Buffer.alloc(to - from), from, signal),
      blocks: (from, to) =>
        this.#locked(from, to, 'shared', signal, () => this.#zeroBlocks(from, to, options)),
    })
  }

  #zeroBlocks(start: number, end: number, options: ZeroOptions): Promise<void> {
    return zeroBlocks(start, end, options, {
      flags: this.#connection.facts.flags,
      maxRequest: this.#maxRequest,
      refused: this.#options.state.refused,
      zero: (offset, size, flags) => this.#connection.zero(offset, size, flags | this.#always),
      write: (bytes, offset) => this.#send(bytes, offset),
    })
  }

  /** Head, whole blocks, tail. */
  async #inBlocks(
    start: number,
    end: number,
    { edge, blocks }: Record<'edge' | 'blocks', (from: number, to: number) => Promise<void>>,
  ): Promise<void> {
    const { headEnd, tailStart } = splitAt(start, end, this.blockSize)
    const isTail = tailStart < end && end < this.#size
    const middleEnd = isTail ? tailStart : end
    if (headEnd > start) await edge(start, headEnd)
    if (middleEnd > headEnd) await blocks(headEnd, middleEnd)
    if (isTail) await edge(tailStart, end)
  }

  #send(bytes: Buffer, offset: number): Promise<void> {
    return this.#connection.write(bytes, offset, this.#always)
  }

  /** For every change: a server that cannot flush may still store each at once. */
  get #always(): number {
    return this.#has(SEND_FUA) && !this.#has(SEND_FLUSH) ? FUA : 0
  }

  /** Many at a time, none larger than the server takes; nothing is in flight when it settles. */
  async #inPieces(
    start: number,
    end: number,
    move: (from: number, to: number) => Promise<void>,
  ): Promise<void> {
    const isLarge = end - start > this.#pieceSize
    const step = isLarge && !this.#isWarm ? this.#maxRequest : this.#pieceSize
    this.#isWarm ||= isLarge
    let from = start
    const lane = async (): Promise<void> => {
      while (from < end) {
        const at = from
        from += step
        await move(at, Math.min(end, at + step)).catch((error: unknown) => {
          from = end // the others stop as well
          throw error
        })
      }
    }
    const lanes = Math.min(MAX_IN_FLIGHT, Math.ceil((end - start) / step))
    const results = await Promise.allSettled(Array.from({ length: lanes }, lane))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async #locked(
    start: number,
    end: number,
    mode: 'shared' | 'exclusive',
    signal: AbortSignal | undefined,
    action: () => Promise<void>,
  ): Promise<void> {
    if (this.blockSize === 1) return action()
    const release = await this.#options.state.lock.acquire(start, end, mode, signal)
    try {
      await action()
    } finally {
      release()
    }
  }

  async #change(end: number, change: () => Promise<void>): Promise<void> {
    if (!this.#options.isWritable || this.#has(READ_ONLY)) throw new StorageReadOnlyError()
    if (end > this.#size) throw new BeyondEndError(end, this.#size)
    await this.#call(change)
  }

  async #call<T>(action: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new StorageError('the image is closed')
    try {
      return await action()
    } catch (error) {
      throw nbdError(error)
    }
  }

  #has(flag: number): boolean {
    return (this.#connection.facts.flags & flag) !== 0
  }
}
