/**
 * What changes of an image announced and did not write, and nobody else has written since they began: a
 * client that takes a failure for success is found out by it.
 */
import { ByteRanges } from './byte-ranges.js'

/** Offset and size. */
export type ByteRange = readonly [number, number]

/** So many are told, and taken over from another daemon. */
export const MAX_RANGES = 64

/** A change under way: what of it nobody has written yet. */
export class PendingChange {
  readonly left = new ByteRanges()

  constructor(offset: number, size: number) {
    this.left.add(offset, size)
  }
}

export class Unfinished {
  readonly #missing = new ByteRanges()
  readonly #pending = new Set<PendingChange>()

  /** Bytes that are missing. */
  get total(): number {
    return this.#missing.total
  }

  /** Bytes that changes under way have still to write. */
  get pending(): number {
    return [...this.#pending].reduce((sum, { left }) => sum + left.total, 0)
  }

  /** What is missing: no more than `max`, the last of them with all that is between. */
  ranges(max: number): ByteRange[] {
    const spans = this.#missing.spans()
    const last = spans.at(-1)
    return spans.slice(0, max).map(({ start, end }, index) => {
      const isCut = index === max - 1 && last !== undefined
      return [start, (isCut ? last.end : end) - start]
    })
  }

  /** Announces a change; to be ended. */
  begin(offset: number, size: number): PendingChange {
    const change = new PendingChange(offset, size)
    this.#pending.add(change)
    return change
  }

  /** Written or zeroed, by whichever change. */
  wrote(offset: number, size: number): void {
    this.#missing.remove(offset, size)
    for (const { left } of this.#pending) left.remove(offset, size)
  }

  /** Nothing of it matters any more, whether it was done or never will be. */
  end(change: PendingChange): void {
    this.#pending.delete(change)
  }

  /** It failed: what is left of it is missing. */
  fail(change: PendingChange): void {
    for (const { start, end } of change.left.spans()) this.#missing.add(start, end - start)
    this.end(change)
  }

  /** These bytes are not what they should be, or were refused. */
  lack(offset: number, size: number): void {
    this.#missing.add(offset, size)
  }
}
