/**
 * What changes of an image announced and did not write, and nobody else has written since they began: a
 * client that takes a failure for success is found out by it.
 */
import { ByteRanges } from './byte-ranges.js'
import type { Journal, Recorded } from './journal.js'

/** Offset and size. */
export type ByteRange = readonly [number, number]

/** So many are told, and taken over from another daemon. */
export const MAX_RANGES = 64

/** A change under way: what of it nobody has written yet. */
export class PendingChange {
  readonly offset: number
  readonly left = new ByteRanges()
  /** Only the end of its body will tell how much it is; `left` is what it may be. */
  readonly isUnsized: boolean

  constructor(offset: number, size: number, isUnsized: boolean) {
    this.offset = offset
    this.isUnsized = isUnsized
    this.left.add(offset, size)
  }
}

export interface UnfinishedOptions {
  /** Where it is recorded. */
  readonly journal?: Journal | undefined
  /** The image is to be emptied before the first change. */
  readonly mustEmpty?: boolean
}

export class Unfinished {
  readonly #missing = new ByteRanges()
  readonly #pending = new Set<PendingChange>()
  /** Where changes ended of which nobody knows how much more there was. */
  readonly #openEnds: Set<number>
  readonly #journal: Journal | undefined
  #mustEmpty: boolean
  #isLost: boolean

  /** Begins with what the journal says of before. `mustEmpty`: what it does not say. */
  constructor({ journal, mustEmpty = false }: UnfinishedOptions = {}) {
    this.#journal = journal
    const found = journal?.found
    for (const { start, end } of found?.announced ?? []) this.#missing.add(start, end - start)
    // Of those that were under way nobody knows how far they came: they have to begin again.
    for (const offset of found?.unsized ?? []) this.#missing.add(offset, 1)
    this.#openEnds = new Set(found?.openEnds)
    this.#mustEmpty = found?.mustEmpty ?? mustEmpty
    this.#isLost = found?.isLost ?? false
    journal?.renew(this.#recorded())
  }

  /** What was in the image before has still to go, before anything is written. */
  get mustEmpty(): boolean {
    return this.#mustEmpty
  }

  noteEmptied(): void {
    this.#mustEmpty = false
    this.#journal?.renew(this.#recorded())
  }

  /** What was written may not be stored, and no later success would prove anything. */
  get isLost(): boolean {
    return this.#isLost
  }

  noteLost(): void {
    if (this.#isLost) return
    this.#isLost = true
    this.#journal?.renew(this.#recorded())
  }

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

  /** Announces a change, to be ended; an unsized one is of no more than `size`. */
  begin(offset: number, size: number, { isUnsized = false } = {}): PendingChange {
    const change = new PendingChange(offset, size, isUnsized)
    this.#pending.add(change)
    if (isUnsized) this.#journal?.announceUnsized(offset)
    else this.#journal?.announce(offset, size)
    return change
  }

  /** Written or zeroed, by whichever change. */
  wrote(offset: number, size: number): void {
    this.#missing.remove(offset, size)
    for (const { left } of this.#pending) left.remove(offset, size)
    this.#journal?.wrote(offset, size)
  }

  /** All that it was to write is there, up to `end`: one that was cut off there had no more. */
  succeed(change: PendingChange, end: number): void {
    if (this.#openEnds.delete(end)) this.#missing.remove(end, 1)
    this.end(change)
  }

  /** Nothing of it matters any more, whether it was done or never will be. */
  end(change: PendingChange): void {
    this.#pending.delete(change)
    this.#settle(change.left.total === 0 && !change.isUnsized)
  }

  /** It failed: what is left of it is missing. */
  fail(change: PendingChange): void {
    for (const { start, end } of change.left.spans()) this.#missing.add(start, end - start)
    this.#pending.delete(change)
    this.#settle(true)
  }

  /** These bytes are not what they should be, or were refused. */
  lack(offset: number, size: number): void {
    this.#missing.add(offset, size)
    this.#journal?.announce(offset, size)
  }

  /** It came up to here, and nobody knows whether that was all. */
  lackMore(offset: number): void {
    this.#openEnds.add(offset)
    this.#journal?.noteOpenEnd(offset)
    this.lack(offset, 1)
  }

  /** The ticket is gone. */
  close(): void {
    this.#journal?.close()
  }

  /** `isTold`: the journal knows of all that was written. */
  #settle(isTold: boolean): void {
    const journal = this.#journal
    if (journal === undefined) return
    const isDone = [...this.#pending].every(({ left, isUnsized }) => left.total === 0 && !isUnsized)
    if (this.total === 0 && isDone) {
      this.#openEnds.clear()
      if (!journal.clear()) journal.renew(this.#recorded())
    } else if (journal.settle() || !isTold) {
      journal.renew(this.#recorded())
    }
  }

  #recorded(): Recorded {
    const announced = new ByteRanges()
    const pending = [...this.#pending]
    const sized = pending.filter(({ isUnsized }) => !isUnsized).map(({ left }) => left)
    for (const ranges of [this.#missing, ...sized]) {
      for (const { start, end } of ranges.spans()) announced.add(start, end - start)
    }
    return {
      announced: announced.spans(),
      unsized: pending.filter(({ isUnsized }) => isUnsized).map(({ offset }) => offset),
      openEnds: [...this.#openEnds],
      mustEmpty: this.#mustEmpty,
      isLost: this.#isLost,
    }
  }
}
