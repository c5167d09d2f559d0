/**
 * Digests of blocks, several at a time: each has a buffer for itself while it is read and hashed,
 * piece by piece, so memory does not depend on the size of blocks.
 */
import { availableParallelism } from 'node:os'
import type { BufferPool } from '../../core/buffer-pool.js'
import { Digest, type DigestAlgorithm } from '../../native/index.js'
import { roundUp } from '../backends/alignment.js'
import type { Backend } from '../backends/backend.js'
import { ImageTruncatedError } from './operation.js'

/**
 * While some blocks are read others are hashed. Two for each core left it idle for a sixth of the
 * time, four for a tenth; more than libuv's pool has threads would only wait.
 */
const MAX_LANES = Math.min(4 * availableParallelism(), 16)

/** Bytes read and hashed in turn: they stay in a core's cache, and a system call costs little of it. */
const READ_PIECE = 256 * 1024

/** Bytes of one call of the storage, which nothing interrupts. */
const MAX_READ = 4 * 1024 * 1024

export interface BlockHasherOptions {
  readonly algorithm: DigestAlgorithm
  /** Where the hashed part of the image ends. */
  readonly end: number
  readonly buffers: BufferPool
  readonly signal: AbortSignal
}

export class BlockHasher {
  readonly #backend: Backend
  readonly #options: BlockHasherOptions
  readonly #buffers: readonly Buffer[]
  readonly #idle: Buffer[]
  readonly #waiting: ((buffer: Buffer) => void)[] = []
  readonly #zeroDigests = new Map<number, Promise<Buffer>>()
  #isStopped = false

  /** Takes as many buffers as are to spare, one at least. To be ended by release(). */
  static async create(backend: Backend, options: BlockHasherOptions): Promise<BlockHasher> {
    const { buffers, signal } = options
    const lent = [await buffers.acquire(signal)]
    while (lent.length < MAX_LANES) {
      const buffer = buffers.tryAcquire()
      if (buffer === undefined) break
      lent.push(buffer)
    }
    return new BlockHasher(backend, options, lent)
  }

  private constructor(backend: Backend, options: BlockHasherOptions, buffers: readonly Buffer[]) {
    this.#backend = backend
    this.#options = options
    this.#buffers = buffers
    this.#idle = [...buffers]
  }

  /** Blocks that may usefully be asked for at a time: none of the buffers is ever idle. */
  get lanes(): number {
    return 2 * this.#buffers.length
  }

  /** The digest of the block's content. */
  async data(offset: number, size: number): Promise<Buffer> {
    return (await this.#readDigest(offset, size)) ?? (await this.#digestOfReads(offset, size))
  }

  /** By the storage itself. Undefined when it can't, or has not all: the plain way tells why. */
  async #readDigest(offset: number, size: number): Promise<Buffer | undefined> {
    const backend = this.#backend
    if (backend.digest === undefined) return undefined
    const buffer = await this.#take()
    const piece = buffer.subarray(0, Math.min(READ_PIECE, roundUp(size, backend.blockSize)))
    try {
      const digest = new Digest(this.#options.algorithm)
      for (let position = 0; position < size; position += MAX_READ) {
        this.#throwIfStopped()
        const part = Math.min(MAX_READ, size - position)
        const got = await backend.digest(digest, piece, offset + position, part)
        if (got !== part) return undefined
      }
      return digest.finish()
    } finally {
      this.#give(buffer)
    }
  }

  /** By pread(), which reads anything there is. */
  #digestOfReads(offset: number, size: number): Promise<Buffer> {
    return this.#hash(size, async (buffer, position) => {
      const end = offset + size
      const start = offset + position
      // Whole blocks of the storage also at the end, so that direct I/O reads into the buffer.
      const alignment = Math.min(this.#backend.blockSize, buffer.length)
      const room = buffer.length - (buffer.length % alignment)
      const wanted = Math.min(room, end - start)
      const readSize = Math.min(room, wanted + ((alignment - (wanted % alignment)) % alignment))
      const got = await this.#backend.pread(buffer.subarray(0, readSize), start)
      if (got < wanted) throw new ImageTruncatedError(this.#options.end, start + got)
      return buffer.subarray(0, wanted)
    })
  }

  /** The digest of that many zero bytes, made once. */
  zeroes(size: number): Promise<Buffer> {
    const known = this.#zeroDigests.get(size)
    if (known !== undefined) return known
    const digest = this.#hash(size, (buffer, position) => {
      const piece = buffer.subarray(0, Math.min(buffer.length, size - position))
      if (position === 0) piece.fill(0)
      return Promise.resolve(piece)
    })
    this.#zeroDigests.set(size, digest)
    return digest
  }

  /** Blocks that have begun end with an error soon. */
  stop(): void {
    this.#isStopped = true
  }

  /** Only when no block is under way. */
  release(): void {
    for (const buffer of this.#buffers) this.#options.buffers.release(buffer)
  }

  /** `piece` fills the buffer with what begins at `position` in the block. */
  async #hash(
    size: number,
    piece: (buffer: Buffer, position: number) => Promise<Buffer>,
  ): Promise<Buffer> {
    const buffer = await this.#take()
    try {
      const digest = new Digest(this.#options.algorithm)
      for (let position = 0; position < size;) {
        this.#throwIfStopped()
        const bytes = await piece(buffer, position)
        await digest.update(bytes)
        position += bytes.length
      }
      return digest.finish()
    } finally {
      this.#give(buffer)
    }
  }

  #throwIfStopped(): void {
    this.#options.signal.throwIfAborted()
    if (this.#isStopped) throw new Error('hashing was stopped')
  }

  #take(): Buffer | Promise<Buffer> {
    return this.#idle.pop() ?? new Promise((resolve) => this.#waiting.push(resolve))
  }

  #give(buffer: Buffer): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#idle.push(buffer)
    else next(buffer)
  }
}
