/** Which parts of [offset, offset + length) have come. Servers send a few large ones. */
interface Part {
  readonly start: number
  end: number
}

export class Coverage {
  readonly #start: number
  readonly #end: number
  /** Ordered, disjoint, with gaps between. */
  readonly #parts: Part[] = []

  constructor(offset: number, length: number) {
    this.#start = offset
    this.#end = offset + length
  }

  /** Undefined, or what is wrong with the part. */
  add(offset: number, length: number): string | undefined {
    const end = offset + length
    if (offset < this.#start || end > this.#end) return 'outside of the request'
    const parts = this.#parts
    const index = this.#indexAfter(offset)
    const before = parts[index - 1]
    const after = parts[index]
    if ((before?.end ?? 0) > offset || (after?.start ?? Infinity) < end) return 'that overlaps'
    const touchesBefore = before?.end === offset
    const touchesAfter = after?.start === end
    if (before !== undefined && touchesBefore) {
      before.end = touchesAfter ? after.end : end
      if (touchesAfter) parts.splice(index, 1)
    } else {
      parts.splice(index, touchesAfter ? 1 : 0, {
        start: offset,
        end: touchesAfter ? after.end : end,
      })
    }
    return undefined
  }

  get isComplete(): boolean {
    const [only, ...others] = this.#parts
    if (only === undefined) return this.#start === this.#end
    return others.length === 0 && only.start === this.#start && only.end === this.#end
  }

  /** Of the first part that starts behind `offset`; most chunks come in order. */
  #indexAfter(offset: number): number {
    let low = 0
    let high = this.#parts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#parts[middle]?.start ?? 0) <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
}
