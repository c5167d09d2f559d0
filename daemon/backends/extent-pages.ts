/** Extents in pages: a promise for each of millions would cost more than all the rest. */
import type { Extent } from './backend.js'

/** Extents of a page, about: some ten kilobytes of JSON. */
const PAGE_SIZE = 512

/** Joins neighbours that say the same. */
export class ExtentPages {
  #page: Extent[] = []
  /** May still grow. */
  #last: Extent | undefined

  /** Follows the one before without a gap; becomes the joiner's own. */
  add(extent: Extent): void {
    const last = this.#last
    if (last?.zero === extent.zero && last.hole === extent.hole && last.dirty === extent.dirty) {
      last.length += extent.length
      return
    }
    if (last !== undefined) this.#page.push(last)
    this.#last = extent
  }

  get isFull(): boolean {
    return this.#page.length >= PAGE_SIZE
  }

  /** What is certain: all but the last. May be empty. */
  take(): readonly Extent[] {
    const page = this.#page
    this.#page = []
    return page
  }

  /** All that is left. */
  end(): readonly Extent[] {
    if (this.#last !== undefined) this.#page.push(this.#last)
    this.#last = undefined
    return this.take()
  }
}
