/**
 * What the bytes of one body are in on their way. Those of images are in buffers of the pool, one or two
 * at a time; small bodies, of which each connection and stream may have one, are in 64 KiB of their own.
 */
import type { BufferPool } from '../core/buffer-pool.js'
import { KiB } from '../core/units.js'

/** Bytes. As much as sockets and HTTP hold of any body: the pool need not know. */
const SMALL = 64 * KiB

export class BodyMemory {
  /** Undefined for a small body. */
  readonly #pool: BufferPool | undefined
  readonly #lent: Buffer[] = []

  private constructor(pool?: BufferPool) {
    this.#pool = pool
  }

  /** For bytes of an image: `size` of them, if that is known. */
  static ofImage(pool: BufferPool, size: number | undefined): BodyMemory {
    return size !== undefined && size <= SMALL ? new BodyMemory() : new BodyMemory(pool)
  }

  /** For lists and texts, whatever their size. */
  static ofText(): BodyMemory {
    return new BodyMemory()
  }

  /** Waits for a buffer. Rejects with BuffersBusyError or the signal's reason. */
  async take(signal: AbortSignal): Promise<void> {
    if (this.#lent.length > 0) throw new Error('nobody waits for a buffer while holding one')
    if (this.#pool !== undefined) this.#lent.push(await this.#pool.acquire(signal))
  }

  /** Once it was taken: for a body of `size` bytes, if that is known. */
  first(size = Infinity): Buffer {
    const wanted = Math.max(1, size)
    if (this.#pool === undefined) return Buffer.allocUnsafe(Math.min(wanted, SMALL))
    const [buffer] = this.#lent
    if (buffer === undefined) throw new Error('no buffer was taken')
    return buffer.subarray(0, wanted)
  }

  /** One more, if there is one to spare. */
  second(): Buffer | undefined {
    const buffer = this.#pool?.tryAcquire()
    if (buffer !== undefined) this.#lent.push(buffer)
    return buffer
  }

  /**
   * Gives one of two buffers, which neither a read nor a write uses, to somebody who waits for a first.
   * False when nobody does.
   */
  yields(buffer: Buffer): boolean {
    if (this.#pool?.isAwaited !== true || this.#lent.length < 2) return false
    const index = this.#lent.findIndex((lent) => startsTogether(lent, buffer))
    const [lent] = index < 0 ? [] : this.#lent.splice(index, 1)
    if (lent === undefined) throw new Error('a buffer was given back that was not taken')
    this.#pool.release(lent)
    return true
  }

  /** Nobody uses the buffers any more. May be called again. */
  release(): void {
    for (const buffer of this.#lent.splice(0)) this.#pool?.release(buffer)
  }
}

/** The first one may be shorter than what was lent. */
function startsTogether(a: Buffer, b: Buffer): boolean {
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset
}
