/** Which blocks of an image are zero by its extents alone, and need not be read (checksum.md, 2). */
import type { Extent } from '../backends/backend.js'

/** Whole blocks, but for the last of the image: all zero, or each with some data. */
export interface BlockRegion {
  readonly start: number
  readonly end: number
  readonly zero: boolean
}

/**
 * Cuts and joins the extents of [0, size) to regions of blocks, in order and without gaps. A block
 * is zero when extents say so of all its bytes. What no extent tells of is data.
 */
export async function* blockRegions(
  pages: AsyncIterable<readonly Extent[]>,
  size: number,
  blockSize: number,
): AsyncGenerator<BlockRegion> {
  /** Everything before was told. */
  let done = 0
  /** No data from here to the present extent. */
  let zeroFrom = 0
  let position = 0
  function* data(end: number): Generator<BlockRegion> {
    if (end <= done) return
    yield { start: done, end, zero: false }
    done = end
  }
  function* zeroes(to: number): Generator<BlockRegion> {
    const start = zeroFrom + ((blockSize - (zeroFrom % blockSize)) % blockSize)
    const end = to === size ? size : to - (to % blockSize)
    if (end <= start) return
    yield* data(start)
    yield { start, end, zero: true }
    done = end
  }
  for await (const page of pages) {
    for (const { start, length, zero } of page) {
      position = start + length
      if (zero) continue
      yield* zeroes(start)
      zeroFrom = position
      yield* data(position - (position % blockSize))
    }
  }
  yield* zeroes(position)
  yield* data(size)
}
