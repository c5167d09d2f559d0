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

export class ImageState {
  readonly lock = new RangeLock()
  /** Connections to a storage server, which may take writes with it. */
  readonly connections = new Set<UnflushedWrites>()
  /** System calls this image's storage answered with "not supported". */
  readonly refused = new Set<string>()
  readonly identity: string
  readonly #tick: () => number
  #generation: number
  #mutations = 0
  #lostWrites: unknown
  /** When writes were lost last. */
  #lostAt = 0

  /** `tick` moves the time of ImageStates. */
  constructor(identity: string, generation: number, tick: () => number) {
    this.identity = identity
    this.#generation = generation
    this.#tick = tick
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
  async mutate<T>(change: () => Promise<T>): Promise<T> {
    this.#mutations++
    this.#generation = this.#tick()
    try {
      return await change()
    } finally {
      this.#generation = this.#tick()
      this.#mutations--
    }
  }

  /** Writes are lost, or may be: no flush of this image may succeed while anyone has it open. */
  loseWrites(cause: unknown): void {
    this.#lostWrites = cause
    this.#lostAt = this.#tick()
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
    const state = new ImageState(identity, generation, () => ++this.#counter)
    this.#open.set(identity, { state, users: 1 })
    return state
  }

  release(state: ImageState): void {
    const known = this.#open.get(state.identity)
    if (known?.state !== state) return
    known.users--
    if (known.users > 0) return
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
