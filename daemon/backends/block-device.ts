/** A block device: its size is fixed from here, and everything happens in sectors. */
import { blockDeviceSize, blockDeviceZeroOut, fallocate, status } from '../../native/index.js'
import {
  DescriptorBackend,
  splitAt,
  type CurrentStatus,
  type DescriptorBackendOptions,
  type ZeroOptions,
} from './descriptor-backend.js'
import { roundDown, roundUp } from './alignment.js'
import { BeyondEndError } from './errors.js'
import { waysToZero, zeroByCalls, type ZeroCall } from './zero.js'

export class BlockDeviceBackend extends DescriptorBackend {
  readonly name = 'block-device'
  readonly canGrow = false
  readonly maxWriters: number
  /** A device may grow under us, so only a write beyond this asks again. */
  #knownSize = 0

  constructor(options: DescriptorBackendOptions) {
    super(options)
    this.maxWriters = options.maxConnections
  }

  protected override async currentSize(): Promise<number> {
    // A last sector that is not complete cannot be reached by any means.
    this.#knownSize = roundDown(await blockDeviceSize(this.io.fd), this.blockSize)
    return this.#knownSize
  }

  protected override async currentStatus(): Promise<CurrentStatus> {
    const [now, size] = await Promise.all([status(this.io.fd), this.currentSize()])
    return { ...now, size }
  }

  protected override async checkWithin(end: number): Promise<void> {
    if (end <= this.#knownSize) return
    const size = await this.currentSize()
    if (end > size) throw new BeyondEndError(end, size)
  }

  protected override async writeEdge(
    piece: Buffer,
    offset: number,
    signal?: AbortSignal,
  ): Promise<void> {
    const start = roundDown(offset, this.blockSize)
    const end = roundUp(offset + piece.length, this.blockSize)
    const release = await this.state.lock.acquire(start, end, 'exclusive', signal)
    try {
      await this.io.modifyBlock(piece, offset, this.#knownSize)
    } finally {
      release()
    }
  }

  protected override async zeroWithin(
    start: number,
    end: number,
    { mayPunchHole, signal }: ZeroOptions,
  ): Promise<void> {
    const { headEnd, tailStart } = splitAt(start, end, this.blockSize)
    await this.writeZeroes(start, headEnd, signal)
    if (tailStart > headEnd && !(await this.#zeroBlocks(headEnd, tailStart, mayPunchHole, signal)))
      await this.writeZeroes(headEnd, tailStart, signal)
    await this.writeZeroes(tailStart, end, signal)
  }

  async #zeroBlocks(
    start: number,
    end: number,
    mayPunchHole: boolean,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const ways = waysToZero({ isBlockDevice: true, mayPunchHole, isBeyondEnd: false })
    const release = await this.state.lock.acquire(start, end, 'exclusive', signal)
    try {
      return await zeroByCalls(ways, this.state.refused, (name) => this.#zero(name, start, end))
    } finally {
      release()
    }
  }

  #zero(name: ZeroCall, start: number, end: number): Promise<void> {
    const { fd } = this.io
    if (name === 'zero-out') return blockDeviceZeroOut(fd, start, end - start)
    return fallocate(fd, name, start, end - start)
  }
}
