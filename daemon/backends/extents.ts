/** Data and holes of a descriptor, asked in batches so that memory does not grow with fragments. */
import { SystemError, dataRanges, type DataRanges } from '../../native/index.js'
import type { Extent } from './backend.js'
import { ExtentPages } from './extent-pages.js'

/** Ranges per call: 1024 keep a worker thread busy for about a millisecond. */
const BATCH = 1024

/** Storage that has no SEEK_DATA, such as block devices: everything may be data. */
const CANNOT_TELL = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'ENOTTY'])

export type AskRanges = (start: number, end: number, limit: number) => Promise<DataRanges>

export async function* zeroExtents(
  start: number,
  end: number,
  ask: AskRanges,
): AsyncGenerator<readonly Extent[]> {
  const pages = new ExtentPages()
  let position = start
  while (position < end) {
    const { ranges, next } = await ask(position, end, BATCH)
    // An answer that leads nowhere must not become an endless loop.
    const covered = next > position ? Math.min(next, end) : end
    const known = next > position ? ranges : [{ start: position, end }]
    for (const data of known) {
      const from = Math.max(data.start, position)
      const to = Math.min(data.end, covered)
      if (to <= from) continue
      if (from > position) pages.add(extentOf(position, from, true))
      pages.add(extentOf(from, to, false))
      position = to
    }
    if (covered > position) pages.add(extentOf(position, covered, true))
    position = covered
    yield pages.take()
  }
  yield pages.end()
}

/** dataRanges(), where storage that cannot tell answers with data. */
export async function dataRangesOrData(
  fd: number,
  start: number,
  end: number,
  limit: number,
  ask = dataRanges,
): Promise<DataRanges> {
  try {
    return await ask(fd, start, end, limit)
  } catch (error) {
    if (!(error instanceof SystemError) || !CANNOT_TELL.has(error.code)) throw error
    return { ranges: [{ start, end }], next: end }
  }
}

function extentOf(start: number, end: number, zero: boolean): Extent {
  return { start, length: end - start, zero, hole: false }
}
