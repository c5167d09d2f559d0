/**
 * Asks for the status of an export step by step. While answers cover whole steps, and are short, the
 * next steps are asked before they are wanted: a large empty image is thousands of round trips.
 */
import type { Dialect } from './messages.js'
import type { BlockStatus } from './pending-request.js'

/**
 * Of one BLOCK_STATUS. Without extended headers lengths have 32 bits; this is the largest multiple of
 * any block size below. With them a step is still one that a server can look through in its time.
 */
const COMPACT_STEP = 2 ** 32 - 64 * 1024
const EXTENDED_STEP = 2 ** 37

/** More keep qemu no busier, and each answer may be of 8 MiB for each context. */
const MAX_AHEAD = 4

/** Extents of an answer that is short: memory for those ahead is bounded by some of these. */
const SHORT_ANSWER = 512

export type AskStatus = (offset: number, length: number) => Promise<BlockStatus>

export class StatusQuestions {
  readonly #end: number
  readonly #step: number
  readonly #ask: AskStatus
  readonly #asked = new Map<number, Promise<BlockStatus>>()
  #ahead = 1
  /** Where the last question ended. */
  #expected = -1
  #wasShort = true

  constructor(end: number, dialect: Dialect, ask: AskStatus) {
    this.#end = end
    this.#step = dialect === 'extended' ? EXTENDED_STEP : COMPACT_STEP
    this.#ask = ask
  }

  /** The answer of one step at the offset; it may cover less, or more, than `length`. */
  async at(offset: number): Promise<{ status: BlockStatus; length: number }> {
    if (offset === this.#expected && this.#wasShort) {
      this.#ahead = Math.min(MAX_AHEAD, this.#ahead * 2)
    } else {
      this.#ahead = 1
      this.#asked.clear()
    }
    for (let count = 0; count < this.#ahead; count++) {
      const at = offset + count * this.#step
      if (at < this.#end && !this.#asked.has(at)) this.#asked.set(at, this.#question(at))
    }
    const status = await (this.#asked.get(offset) ?? this.#question(offset))
    this.#asked.delete(offset)
    const length = this.#lengthAt(offset)
    this.#expected = offset + length
    this.#wasShort = [...status.values()].every((list) => list.count <= SHORT_ANSWER)
    return { status, length }
  }

  #question(offset: number): Promise<BlockStatus> {
    const answer = this.#ask(offset, this.#lengthAt(offset))
    answer.catch(() => undefined) // who gets to this step sees the error
    return answer
  }

  #lengthAt(offset: number): number {
    return Math.min(this.#end - offset, this.#step)
  }
}
