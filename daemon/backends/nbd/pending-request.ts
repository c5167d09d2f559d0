/** A request that was sent, and how much of its reply has come. */
import { Coverage } from './coverage.js'
import type { NbdServerError } from './errors.js'
import { broken, type Request } from './messages.js'
import { Command } from './protocol.js'
import type { StatusList } from './status-list.js'

/** What each context says. */
export type BlockStatus = ReadonlyMap<number, StatusList>

/** No server cuts smaller than its sectors, but for a few odd ends. */
const MIN_CHUNK = 512
const MAX_CHUNKS = 16

export class PendingRequest {
  readonly command: number
  readonly offset: number
  readonly length: number
  /** A chunk of the reply has come. */
  isStarted = false
  /** The last chunk has come. */
  isFinished = false
  onFinished: () => void = () => undefined
  readonly status = new Map<number, StatusList>()
  #error: NbdServerError | undefined
  #chunks = 0
  readonly #target: Buffer | undefined
  readonly #coverage: Coverage
  readonly #contexts: ReadonlySet<number>

  /** `target` is where data goes: as long as the request. */
  constructor(
    { command, offset, length }: Request,
    { target, contexts = new Set() }: { target?: Buffer; contexts?: ReadonlySet<number> },
  ) {
    this.command = command
    this.offset = offset
    this.length = length
    this.#target = target
    this.#contexts = contexts
    this.#coverage = new Coverage(offset, length)
  }

  get error(): NbdServerError | undefined {
    return this.#error
  }

  /** The memory of a part of the image, which comes once and only once. */
  place(offset: number, length: number): Buffer {
    if (++this.#chunks > MAX_CHUNKS + this.length / MIN_CHUNK) throw broken('data in crumbs')
    const problem = this.#coverage.add(offset, length)
    if (problem !== undefined) throw broken(`a chunk ${problem}`)
    const start = offset - this.offset
    const target = this.#target?.subarray(start, start + length)
    if (target?.length !== length) throw broken('data that has no place')
    return target
  }

  addStatus(list: StatusList): void {
    const { context } = list
    if (!this.#contexts.has(context)) throw broken('extents of an unknown context')
    if (this.status.has(context)) throw broken('extents of a context twice')
    this.status.set(context, list)
  }

  checkWithin(offset: number): void {
    if (offset < this.offset || offset >= this.offset + this.length) {
      throw broken('an error outside of the request')
    }
  }

  /** The first error is the one to tell. */
  fail(error: NbdServerError): void {
    this.#error ??= error
  }

  /** Whether the reply may end here. */
  checkComplete(): void {
    if (this.#error !== undefined) return
    if (this.command === Command.READ && !this.#coverage.isComplete) {
      throw broken('a reply without all of the data')
    }
    if (this.command === Command.BLOCK_STATUS && this.status.size < this.#contexts.size) {
      throw broken('a reply without the extents of each context')
    }
  }
}
