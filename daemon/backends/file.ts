/**
 * A regular file. It grows when written beyond its end, exactly to the last byte written and never
 * by the padding that direct I/O wants.
 *
 * Rules of locking (RangeLock): whole blocks are written under a shared lock, a block that is read
 * and written back under an exclusive one. What depends on where the file ends (writing a tail
 * exactly, truncating to extend) holds an exclusive lock up to infinity, since whoever makes the
 * file longer than that must lock something behind it.
 */
import { PAGE_SIZE, fallocate, reopen, status, truncate } from '../../native/index.js'
import { AlignedIo } from './aligned-io.js'
import { BUFFERED, isMultiple, roundDown } from './alignment.js'
import {
  DescriptorBackend,
  splitAt,
  type CurrentStatus,
  type ZeroOptions,
} from './descriptor-backend.js'
import { waysToZero, zeroByCalls, type ZeroCall } from './zero.js'

export class FileBackend extends DescriptorBackend {
  readonly name = 'file'
  readonly canGrow = true
  /** Writers that extend a file wait for each other in the file system; more are no faster. */
  readonly maxWriters = 1
  /** Opened when first needed: takes any length, through the page cache. */
  #buffered: AlignedIo | undefined
  #opening: Promise<AlignedIo> | undefined

  empty(): Promise<void> {
    return this.change(async () => {
      const release = await this.state.lock.acquire(0, Infinity, 'exclusive')
      try {
        await truncate(this.io.fd, 0)
      } finally {
        release()
      }
    })
  }

  protected override async currentSize(): Promise<number> {
    return (await this.currentStatus()).size
  }

  protected override currentStatus(): Promise<CurrentStatus> {
    return status(this.io.fd)
  }

  protected override checkWithin(): Promise<void> {
    return Promise.resolve()
  }

  protected override descriptors(): number[] {
    return [this.io.fd, ...(this.#buffered === undefined ? [] : [this.#buffered.fd])]
  }

  protected override async writeEdge(
    piece: Buffer,
    offset: number,
    signal?: AbortSignal,
  ): Promise<void> {
    if (await this.#modifyInside(piece, offset, signal)) return
    await this.#writeAcrossEnd(piece, offset, signal)
  }

  /** False when rewriting the whole block would make the file longer than the piece does. */
  async #modifyInside(piece: Buffer, offset: number, signal?: AbortSignal): Promise<boolean> {
    const start = roundDown(offset, this.blockSize)
    const end = start + this.blockSize
    const release = await this.state.lock.acquire(start, end, 'exclusive', signal)
    try {
      const size = await this.currentSize()
      if (end > Math.max(size, offset + piece.length)) return false
      await this.io.modifyBlock(piece, offset, size)
      return true
    } finally {
      release()
    }
  }

  /**
   * The piece ends inside the block in which the file ends or behind it. Locked from the page's
   * start, because the page cache reads and writes whole pages.
   */
  async #writeAcrossEnd(piece: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    const start = roundDown(roundDown(offset, PAGE_SIZE), this.blockSize)
    const release = await this.state.lock.acquire(start, Infinity, 'exclusive', signal)
    try {
      const size = await this.currentSize()
      const blockEnd = roundDown(offset, this.blockSize) + this.blockSize
      if (blockEnd <= size) await this.io.modifyBlock(piece, offset, size)
      else await this.#writeExactly(piece, offset)
    } finally {
      release()
    }
  }

  /**
   * Through the page cache and from there to the storage before the lock is given back: direct I/O
   * of the same page must find the bytes there and no dirty page that is written later.
   */
  async #writeExactly(piece: Buffer, offset: number): Promise<void> {
    const buffered = await this.#openBuffered()
    await buffered.write(piece, offset)
    await this.sync([buffered.fd])
  }

  async #openBuffered(): Promise<AlignedIo> {
    this.#opening ??= reopen(this.io.fd, { write: true, direct: false }).then(
      (fd) => (this.#buffered = new AlignedIo(fd, BUFFERED)),
    )
    try {
      return await this.#opening
    } catch (error) {
      this.#opening = undefined
      throw error
    }
  }

  protected override async zeroWithin(
    start: number,
    end: number,
    { mayPunchHole, signal }: ZeroOptions,
  ): Promise<void> {
    const oldSize = mayPunchHole ? await this.#extend(start, end, signal) : await this.currentSize()
    // What truncating added is a hole already.
    if (mayPunchHole && oldSize <= start) return
    const { headEnd, tailStart } = this.#splitForCalls(start, end, oldSize)
    await this.writeZeroes(start, headEnd, signal)
    if (!(await this.#zeroByCalls(headEnd, tailStart, mayPunchHole, signal)))
      await this.writeZeroes(headEnd, tailStart, signal)
    await this.writeZeroes(tailStart, end, signal)
  }

  /**
   * Head and tail that share a page with other data are written, so that the file system need not
   * zero them in the page cache beside our direct I/O. At the end of the file there is no other
   * data, and the calls take any length.
   */
  #splitForCalls(start: number, end: number, oldSize: number) {
    if (this.blockSize === 1) return { headEnd: start, tailStart: end }
    const page = isMultiple(this.blockSize, PAGE_SIZE) ? this.blockSize : PAGE_SIZE
    const split = splitAt(start, end, page)
    const isAtEnd = end >= oldSize && split.headEnd < end
    return isAtEnd ? { headEnd: split.headEnd, tailStart: end } : split
  }

  /** Makes the file at least `end` long; resolves with the size it had. */
  async #extend(start: number, end: number, signal?: AbortSignal): Promise<number> {
    // Truncating to a size that is stale would cut off what someone appended meanwhile.
    const release = await this.state.lock.acquire(start, Infinity, 'exclusive', signal)
    try {
      const size = await this.currentSize()
      if (size < end) await truncate(this.io.fd, end)
      return size
    } finally {
      release()
    }
  }

  async #zeroByCalls(
    start: number,
    end: number,
    mayPunchHole: boolean,
    signal?: AbortSignal,
  ): Promise<boolean> {
    if (start >= end) return true
    const lock = this.state.lock
    const lockedEnd = isMultiple(end, this.blockSize) ? end : Infinity
    const release = await lock.acquire(start, lockedEnd, 'exclusive', signal)
    try {
      const isBeyondEnd = start >= (await this.currentSize())
      const ways = waysToZero({ isBlockDevice: false, mayPunchHole, isBeyondEnd })
      return await zeroByCalls(ways, this.state.refused, (name) => this.#zero(name, start, end))
    } finally {
      release()
    }
  }

  async #zero(name: ZeroCall, start: number, end: number): Promise<void> {
    if (name === 'zero-out') throw new TypeError('zero-out is for block devices')
    await fallocate(this.io.fd, name, start, end - start)
  }
}
