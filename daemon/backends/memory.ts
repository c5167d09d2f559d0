/** An image in memory, for tests of what stands above backends. No URL leads here. */
import { createHash } from 'node:crypto'
import type { Backend, Extent, ExtentContext, ImageFacts } from './backend.js'
import { BeyondEndError, DirtyExtentsUnavailableError } from './errors.js'

export interface MemoryOptions {
  readonly blockSize?: number
  /** Like a file; without it the size is fixed, as of a device. */
  readonly canGrow?: boolean
}

export class MemoryBackend implements Backend {
  readonly name = 'memory'
  readonly canGrow: boolean
  readonly blockSize: number
  readsAhead?: number
  readonly maxReaders = 8
  readonly maxWriters = 8
  /** The image as it is now. */
  data: Buffer
  /** Calls since the start, for tests that count them. */
  flushes = 0
  isClosed = false
  isGone = false

  constructor(data: Buffer, { blockSize = 1, canGrow = false }: MemoryOptions = {}) {
    this.data = data
    this.blockSize = blockSize
    this.canGrow = canGrow
  }

  size(): Promise<number> {
    return Promise.resolve(this.data.length)
  }

  facts(): Promise<ImageFacts> {
    const etag = createHash('sha256').update(this.data).digest('base64url')
    return Promise.resolve({ size: this.data.length, etag })
  }

  pread(buffer: Buffer, offset: number): Promise<number> {
    return Promise.resolve(offset < this.data.length ? this.data.copy(buffer, 0, offset) : 0)
  }

  async pwrite(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    await this.#reach(offset + buffer.length, signal)
    buffer.copy(this.data, offset)
  }

  async zero(
    offset: number,
    size: number,
    options: { mayPunchHole: boolean; signal?: AbortSignal },
  ): Promise<void> {
    await this.#reach(offset + size, options.signal)
    this.data.fill(0, offset, offset + size)
  }

  flush(): Promise<void> {
    this.flushes++
    return Promise.resolve()
  }

  async *extents(
    start: number,
    end: number,
    context: ExtentContext,
  ): AsyncGenerator<readonly Extent[]> {
    if (context === 'dirty') throw new DirtyExtentsUnavailableError()
    let from = start
    while (from < end) {
      const zero = this.data[from] === 0
      let to = from + 1
      while (to < end && (this.data[to] === 0) === zero) to++
      yield await Promise.resolve([{ start: from, length: to - from, zero, hole: false }])
      from = to
    }
  }

  close(): Promise<void> {
    this.isClosed = true
    return Promise.resolve()
  }

  #reach(end: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      signal?.throwIfAborted()
      if (end > this.data.length) {
        if (!this.canGrow) throw new BeyondEndError(end, this.data.length)
        this.data = Buffer.concat([this.data, Buffer.alloc(end - this.data.length)])
      }
      resolve()
    })
  }
}
