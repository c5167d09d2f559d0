/** A request body that is read no faster than its pace allows. */
import type { Pace } from '../rate/pace.js'
import type { PaceableBody, ReadableBody } from './body.js'

export class PacedBody implements ReadableBody {
  readonly #body: PaceableBody
  readonly #pace: Pace
  /** A read is open that does less than it was asked for. */
  #isPacing = false

  constructor(body: PaceableBody, pace: Pace) {
    this.#body = body
    this.#pace = pace
  }

  /** Nobody waits for the client while the pace is waited for, so it is not to blame for that. */
  async read(target: Buffer, lingerMs?: number): Promise<number> {
    const wanted = Math.min(target.length, this.#body.awaited)
    if (!this.#pace.isLimited || wanted === 0) return this.#body.read(target, lingerMs)
    this.#isPacing = true
    try {
      return await this.#readPaced(target, wanted, lingerMs)
    } finally {
      this.#isPacing = false
    }
  }

  async #readPaced(target: Buffer, wanted: number, lingerMs?: number): Promise<number> {
    const granted = await this.#granted(wanted)
    if (granted === undefined) return this.#body.read(target, lingerMs)
    let size = 0
    try {
      size = await this.#body.read(target.subarray(0, granted), lingerMs)
      return size
    } finally {
      this.#pace.giveBack(granted - size)
    }
  }

  /** Undefined when there is nothing to hold back any more. */
  async #granted(upTo: number): Promise<number | undefined> {
    const { over } = this.#body
    if (over.aborted) return undefined
    try {
      return await this.#pace.take(upTo, over)
    } catch (error) {
      if (error !== over.reason) throw error
      return undefined
    }
  }

  /** What is held back is not read ahead, nor what comes after a read that may not fill its target. */
  ahead(target: Buffer): void {
    if (!this.#pace.isLimited && !this.#isPacing) this.#body.ahead?.(target)
  }

  async drop(): Promise<void> {
    await this.#body.drop?.()
  }

  release(): void {
    this.#body.release()
  }
}
