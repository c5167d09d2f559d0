/**
 * Moves a body from where it comes to where it goes. Bodies arrive in TLS records of 16 KiB, and each
 * write costs: they are collected into large pieces, one being filled while the other goes out. Where
 * there is memory for one piece only, or others wait for theirs, it goes out before it is filled again.
 * What lingers is passed on soon, however small.
 */
import type { BodyMemory } from './body-memory.js'
import { DaemonAnswerError } from './errors.js'

export interface ByteSource {
  /** As RequestBody.read(). */
  read(target: Buffer, lingerMs?: number): Promise<number>
}

export interface ByteSink {
  /** Resolves when the chunk's memory may be used again. */
  write(chunk: Buffer): Promise<void>
}

/** Longer than the gap between two records of a body that flows, shorter than anybody notices. */
const LINGER_MS = 20

export interface PumpOptions {
  /** Was taken, and is released by the caller: a write that was given up may still use it. */
  readonly memory: BodyMemory
  /** Bytes to come, if known: small bodies need no large buffers. */
  readonly size: number | undefined
  /** No more is passed on. A body that goes on is an error, made here. */
  readonly limit: number
  readonly beyond: () => Error
  /** Called when the piece is passed on. */
  readonly onMoved: (size: number) => void
}

/** Resolves when all is passed on. Rejects with the first error of either side. */
export async function pump(
  source: ByteSource,
  sink: ByteSink,
  { memory, size, limit, beyond, onMoved }: PumpOptions,
): Promise<void> {
  let buffer = memory.first(size)
  /** Not in use whenever a write has begun. */
  let other: Buffer | undefined
  let taken = 0
  let writing: Promise<void> = Promise.resolve()
  for (;;) {
    let filled: number
    try {
      filled = await source.read(buffer, LINGER_MS)
    } catch (error) {
      await writing // what came before the failure is passed on
      throw error
    }
    await writing
    if (filled === 0) return
    const passed = Math.min(filled, limit - taken)
    taken += filled
    if (passed > 0) writing = sink.write(buffer.subarray(0, passed)).then(() => onMoved(passed))
    writing.catch(() => undefined) // awaited in the next turn
    if (passed < filled) {
      await writing
      throw beyond()
    }
    if (other !== undefined && memory.yields(other)) other = undefined
    if (taken !== size) other ??= memory.second()
    if (other === undefined) await writing
    else [buffer, other] = [other, buffer]
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
