/**
 * Moves a body from where it comes to where it goes. Bodies arrive in TLS records of 16 KiB, and each
 * write costs: they are collected into large pieces, one being filled while the other goes out, and
 * there are no more than these two. What lingers is passed on soon, however small.
 */
import { DaemonAnswerError } from './errors.js'

export interface ByteSource {
  /** As RequestBody.read(). */
  read(target: Buffer, lingerMs?: number): Promise<number>
}

export interface ByteSink {
  /** Resolves when the chunk's memory may be used again. */
  write(chunk: Buffer): Promise<void>
}

const PIECE_SIZE = 256 * 1024
/** Longer than the gap between two records of a body that flows, shorter than anybody notices. */
const LINGER_MS = 20
const MAX_IDLE = 32

export interface PumpOptions {
  /** Bytes to come, if known: small bodies need no large buffers. */
  readonly size: number | undefined
  /** No more is passed on. A body that goes on is an error, made here. */
  readonly limit: number
  readonly beyond: () => Error
  /** Called when the piece is passed on. */
  readonly onMoved: (size: number) => void
}

export class Pump {
  readonly #idle: Buffer[] = []
  readonly #pieceSize: number
  readonly #maxIdle: number

  /** `maxIdle` buffers of that size are kept for the next body. */
  constructor({ pieceSize = PIECE_SIZE, maxIdle = MAX_IDLE } = {}) {
    this.#pieceSize = pieceSize
    this.#maxIdle = maxIdle
  }

  /** Resolves when all is passed on. Rejects with the first error of either side. */
  async run(source: ByteSource, sink: ByteSink, options: PumpOptions): Promise<void> {
    const { size, limit, beyond, onMoved } = options
    let left = limit
    const buffers = [this.#acquire(size), this.#acquire(size)] as const
    let writing: Promise<void> = Promise.resolve()
    for (let turn: 0 | 1 = 0; ; turn = turn === 0 ? 1 : 0) {
      const buffer: Buffer = buffers[turn]
      let filled: number
      try {
        filled = await source.read(buffer, LINGER_MS)
      } catch (error) {
        await writing // what came before the failure is passed on
        throw error
      }
      await writing
      if (filled === 0) break
      const passed = Math.min(filled, left)
      left -= passed
      if (passed > 0) writing = sink.write(buffer.subarray(0, passed)).then(() => onMoved(passed))
      writing.catch(() => undefined) // awaited in the next turn
      if (passed === filled) continue
      await writing
      throw beyond()
    }
    // Not after a failure: a write that was given up may still use its buffer.
    for (const buffer of buffers) this.#release(buffer)
  }

  #acquire(size: number | undefined): Buffer {
    if (size !== undefined && size < this.#pieceSize) return Buffer.allocUnsafe(Math.max(1, size))
    return this.#idle.pop() ?? Buffer.allocUnsafeSlow(this.#pieceSize)
  }

  #release(buffer: Buffer): void {
    const isOfUse = buffer.length === this.#pieceSize && this.#idle.length < this.#maxIdle
    if (isOfUse) this.#idle.push(buffer)
  }
}

/** The whole of a small body. Throws DaemonAnswerError when it is not small. */
export async function readAll(source: ByteSource, limit: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(limit + 1)
  let size = 0
  while (size <= limit) {
    const read = await source.read(buffer.subarray(size))
    if (read === 0) return buffer.subarray(0, size)
    size += read
  }
  throw new DaemonAnswerError(`more than ${limit} bytes where a few were expected`)
}
