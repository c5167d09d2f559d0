/** A set of bytes as ordered, disjoint ranges that do not touch. */
interface MutableSpan {
  start: number
  end: number
}

export type Span = Readonly<MutableSpan>

/**
 * Spans kept at most: about 6 MiB. Past it a range that touches none of them is not recorded, so that
 * the total may be too small, which delays an automatic finalization, but never too large.
 */
const MAX_SPANS = 100_000

export class ByteRanges {
  readonly #spans: MutableSpan[] = []
  #total = 0

  /** Bytes in the set. */
  get total(): number {
    return this.#total
  }

  /** In ascending order. */
  spans(): readonly Span[] {
    return this.#spans
  }

  /** Adds [offset, offset + size). Cheap for sequential adding: no pass over all spans. */
  add(offset: number, size: number): void {
    if (size <= 0) return
    let start = offset
    let end = offset + size
    const from = this.#firstTouching(start)
    let to = from
    let span = this.#spans[to]
    while (span !== undefined && span.start <= end) {
      start = Math.min(start, span.start)
      end = Math.max(end, span.end)
      this.#total -= span.end - span.start
      span = this.#spans[++to]
    }
    const only = this.#spans[from]
    if (to === from + 1 && only !== undefined) {
      only.start = start
      only.end = end
    } else if (to > from || this.#spans.length < MAX_SPANS) {
      this.#spans.splice(from, to - from, { start, end })
    } else {
      return
    }
    this.#total += end - start
  }

  /** Takes [offset, offset + size) out of the set. */
  remove(offset: number, size: number): void {
    if (size <= 0 || this.#spans.length === 0) return
    const end = offset + size
    const from = this.#firstTouching(offset)
    const rest: MutableSpan[] = []
    let to = from
    for (let span = this.#spans[to]; span !== undefined && span.start < end;) {
      this.#total -= span.end - span.start
      if (span.start < offset) rest.push({ start: span.start, end: Math.min(span.end, offset) })
      if (span.end > end) rest.push({ start: end, end: span.end })
      span = this.#spans[++to]
    }
    this.#spans.splice(from, to - from, ...rest)
    for (const { start, end: last } of rest) this.#total += last - start
  }

  /** Index of the first span that ends at or after `start`. */
  #firstTouching(start: number): number {
    let low = 0
    let high = this.#spans.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#spans[middle]?.end ?? 0) < start) low = middle + 1
      else high = middle
    }
    return low
  }
}
