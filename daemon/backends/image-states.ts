/**
 * What all contexts of this process know about one image. Two connections, or two tickets whose
 * paths lead to the same file, share one state, so that their locks meet (W38) and a write through
 * one changes the entity tag of the other.
 */
import { randomBytes } from 'node:crypto'
import type { FileStatus } from '../../native/index.js'
import { RangeLock } from './range-lock.js'
import { WritesLostError } from './errors.js'
import type { UnflushedWrites } from './unflushed.js'

/**
 * Images that were written and closed, whose generation is kept: a client that resumes on a new
 * connection must see whether the image changed in between. 100 bytes each.
 */
const MAX_REMEMBERED = 10_000

/** Whoever has to be told when what it wrote is lost: a ticket. */
export interface Writer {
  /** What it wrote and nobody has flushed since is lost, or may be. */
  readonly loseWrites: (cause: unknown) => void
  /** Aborted when it is of no interest any more. */
  readonly canceled: AbortSignal
}

export class ImageState {
  readonly lock = new RangeLock()
  /** Connections to a storage server, which may take writes with it. */
  readonly connections = new Set<UnflushedWrites>()
  /** System calls this image's storage answered with "not supported". */
  readonly refused = new Set<string>()
  readonly identity: string
  readonly #tick: () => number
  readonly #onForgotten: () => void
  /** Those with writes that no flush has covered, with the time of their last, in ticks. */
  readonly #unflushed = new Map<Writer, number>()
  #generation: number
  #mutations = 0
  #lostWrites: unknown
  /** When writes were lost last. */
  #lostAt = 0

  /** `tick` moves the time of ImageStates; `onForgotten` is called when a writer has gone. */
  constructor(
    identity: string,
    generation: number,
    tick: () => number,
    onForgotten: () => void = () => undefined,
  ) {
    this.identity = identity
    this.#generation = generation
    this.#tick = tick
    this.#onForgotten = onForgotten
  }

  get generation(): number {
    return this.#generation
  }

  /** Whether a mutation is under way now. */
  isMutating(): boolean {
    return this.#mutations > 0
  }

  /**
   * Runs what changes the image. The generation moves before the first byte may change and after
   * the last one did, also when it fails: part of it may be written.
   */
  async mutate<T>(change: () => Promise<T>, writer?: Writer): Promise<T> {
    this.#mutations++
    this.#note(writer)
    try {
      return await change()
    } finally {
      this.#note(writer)
      this.#mutations--
    }
  }

  /** Runs what makes stable all that was written before, and calls loseWrites() when it fails. */
  async flush(sync: () => Promise<void>): Promise<void> {
    const covered = new Map(this.#unflushed)
    await sync()
    for (const [writer, time] of covered) {
      if (this.#unflushed.get(writer) === time) this.#unflushed.delete(writer)
    }
  }

  /**
   * Writes are lost, or may be: no flush of this image may succeed while anyone has it open. The system
   * tells of that once, and only those who have the file open; so all whose writes they may have been
   * are told, also when they have closed it and will flush on a connection that they open later.
   */
  loseWrites(cause: unknown): void {
    this.#lostWrites = cause
    this.#lostAt = this.#tick()
    for (const writer of this.#unflushed.keys()) writer.loseWrites(cause)
    this.#unflushed.clear()
  }

  /** Somebody who has closed the image would have to be told. */
  get isUnflushed(): boolean {
    return this.#unflushed.size > 0
  }

  /** Nobody has it open: who opens it next starts over, other than those who were told. */
  reset(): void {
    this.#lostAt = 0
    this.#lostWrites = undefined
  }

  #note(writer: Writer | undefined): void {
    this.#generation = this.#tick()
    if (writer === undefined || writer.canceled.aborted) return
    if (!this.#unflushed.has(writer)) {
      writer.canceled.addEventListener('abort', () => this.#forget(writer), { once: true })
    }
    this.#unflushed.set(writer, this.#generation)
  }

  #forget(writer: Writer): void {
    if (this.#unflushed.delete(writer)) this.#onForgotten()
  }

  /** What was lost before `since`, a time of ImageStates, is of no concern. */
  throwIfWritesLost(since = 0): void {
    if (this.#lostAt > since) throw new WritesLostError({ cause: this.#lostWrites })
  }
}

export class ImageStates {
  /** Tags of an earlier process never match ours: who knows what happened in between. */
  readonly epoch = randomBytes(8).toString('hex')
  readonly #maxRemembered: number
  readonly #open = new Map<string, { state: ImageState; users: number }>()
  /** Identity to generation of images that were written, least recently closed first. */
  readonly #written = new Map<string, number>()
  #counter = 0
  /** Generation of images that are in neither map. */
  #floor = 0

  constructor({ maxRemembered = MAX_REMEMBERED }: { maxRemembered?: number } = {}) {
    this.#maxRemembered = maxRemembered
  }

  /** Moves with each change and each loss of any image. */
  get now(): number {
    return this.#counter
  }

  /** Each call needs one release(). */
  acquire(identity: string): ImageState {
    const known = this.#open.get(identity)
    if (known !== undefined) {
      known.users++
      return known.state
    }
    const generation = this.#written.get(identity) ?? this.#floor
    const tick = (): number => ++this.#counter
    const state = new ImageState(identity, generation, tick, () => this.#drop(state))
    this.#open.set(identity, { state, users: 1 })
    return state
  }

  release(state: ImageState): void {
    const known = this.#open.get(state.identity)
    if (known?.state !== state) return
    known.users--
    this.#drop(state)
  }

  /** Unless somebody has it open or would have to be told of a loss. */
  #drop(state: ImageState): void {
    const known = this.#open.get(state.identity)
    if (known?.state !== state || known.users > 0) return
    state.reset()
    if (state.isUnflushed) return
    this.#open.delete(state.identity)
    this.#remember(state)
  }

  #remember(state: ImageState): void {
    if (state.generation === this.#floor) return
    this.#written.delete(state.identity)
    this.#written.set(state.identity, state.generation)
    if (this.#written.size <= this.#maxRemembered) return
    const oldest = this.#written.keys().next()
    if (oldest.done === true) return
    this.#written.delete(oldest.value)
    // The forgotten image must not come back with its first tag; so none that is unknown may.
    this.#floor = ++this.#counter
  }
}

/** The same string for every path, mount or device node that leads to the same bytes. */
export function imageIdentity(status: FileStatus): string {
  if (status.type === 'block-device') return `b${status.rdev.toString(36)}`
  return `f${status.device.toString(36)}.${status.inode.toString(36)}`
}
