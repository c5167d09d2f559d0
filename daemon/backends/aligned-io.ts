/**
 * Reads and writes of one descriptor that respect its alignment. Direct I/O wants offsets, lengths
 * and addresses at multiples; what is not goes through aligned memory of our own.
 */
import {
  SystemError,
  allocateAligned,
  isAligned,
  pread,
  pwrite,
  type Digest,
} from '../../native/index.js'
import { isMultiple, roundDown, roundUp, type Alignment } from './alignment.js'
import { StorageError } from './errors.js'

/** Largest copy held for a caller whose buffer cannot be used directly. */
const MAX_BOUNCE = 1024 * 1024

/** A write may be cut short anywhere; this many that got nowhere in a row are a failure. */
const MAX_STALLS = 8

/** A read may meet a file that is growing; it does not happen over and over. */
const MAX_READ_TRIES = 16

/** The two calls, so that a test can cut them short. */
export interface PositionedCalls {
  pread(fd: number, buffer: Buffer, offset: number): Promise<number>
  pwrite(fd: number, buffer: Buffer, offset: number): Promise<number>
}

export class AlignedIo {
  readonly fd: number
  readonly blockSize: number
  readonly #memoryAlign: number
  readonly #calls: PositionedCalls

  constructor(fd: number, alignment: Alignment, calls: PositionedCalls = { pread, pwrite }) {
    this.fd = fd
    this.blockSize = alignment.blockSize
    this.#memoryAlign = alignment.memoryAlign
    this.#calls = calls
  }

  /** Any offset and length; fewer bytes only at the end of the file. */
  async read(buffer: Buffer, offset: number): Promise<number> {
    if (buffer.length === 0) return 0
    if (this.#fits(buffer, offset)) return this.#read(buffer, offset)
    return this.#readBounced(buffer, offset)
  }

  /** See Backend.digest(). */
  async digest(
    digest: Digest,
    buffer: Buffer,
    offset: number,
    size: number,
  ): Promise<number | undefined> {
    if (!this.#fits(buffer, offset)) return undefined
    try {
      return await digest.read(this.fd, buffer, offset, size)
    } catch (error) {
      if (mayBeGrowth(error)) return undefined
      throw error
    }
  }

  #fits(buffer: Buffer, offset: number): boolean {
    return (
      isMultiple(offset, this.blockSize) &&
      isMultiple(buffer.length, this.blockSize) &&
      isAligned(buffer, this.#memoryAlign)
    )
  }

  /**
   * A direct read that is cut short where the file ended, in a file that has grown since, cannot go
   * on from there: EINVAL. Read again, it gets what there is now.
   */
  async #read(buffer: Buffer, offset: number): Promise<number> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#calls.pread(this.fd, buffer, offset)
      } catch (error) {
        if (!mayBeGrowth(error) || tries === MAX_READ_TRIES) throw error
      }
    }
  }

  async #readBounced(buffer: Buffer, offset: number): Promise<number> {
    const lastBlockEnd = roundUp(offset + buffer.length, this.blockSize)
    const whole = lastBlockEnd - roundDown(offset, this.blockSize)
    const bounce = allocateAligned(Math.min(whole, this.#bounceSize()))
    let done = 0
    while (done < buffer.length) {
      const start = roundDown(offset + done, this.blockSize)
      const span = Math.min(bounce.length, lastBlockEnd - start)
      const got = await this.#read(bounce.subarray(0, span), start)
      const skipped = offset + done - start
      const wanted = Math.max(0, Math.min(got - skipped, buffer.length - done))
      bounce.copy(buffer, done, skipped, skipped + wanted)
      done += wanted
      if (got < span) break
    }
    return done
  }

  /** Writes everything; offset and length are multiples of the block size. */
  async write(buffer: Buffer, offset: number): Promise<void> {
    let done = 0
    let stalls = 0
    while (done < buffer.length) {
      const piece = this.#addressable(buffer.subarray(done))
      const written = await this.#calls.pwrite(this.fd, piece, offset + done)
      // Direct I/O can't go on in the middle of a block: what was written of that is repeated.
      const whole = roundDown(written, this.blockSize)
      stalls = whole > 0 ? 0 : stalls + 1
      if (stalls > MAX_STALLS) throw new StorageError('the storage stopped taking data')
      done += whole
    }
  }

  /**
   * Read-modify-write of the one block that contains `piece`. `size` is where the image ends: the
   * block reads as zeroes behind that, and nothing before it may be missing. The caller holds an
   * exclusive lock on the block.
   */
  async modifyBlock(piece: Buffer, offset: number, size: number): Promise<void> {
    const start = roundDown(offset, this.blockSize)
    const block = allocateAligned(this.blockSize)
    const got = await this.#read(block, start)
    if (got < Math.min(this.blockSize, size - start)) {
      throw new StorageError('the image became shorter during a write')
    }
    block.fill(0, got)
    piece.copy(block, offset - start)
    await this.write(block, start)
  }

  #addressable(buffer: Buffer): Buffer {
    if (isAligned(buffer, this.#memoryAlign)) return buffer
    const copy = allocateAligned(Math.min(buffer.length, this.#bounceSize()))
    buffer.copy(copy)
    return copy
  }

  #bounceSize(): number {
    return Math.max(this.blockSize, roundDown(MAX_BOUNCE, this.blockSize))
  }
}

/** See #read(). */
function mayBeGrowth(error: unknown): boolean {
  return error instanceof SystemError && error.code === 'EINVAL'
}
