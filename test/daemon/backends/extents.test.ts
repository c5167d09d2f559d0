import t from 'tap'
import type { Extent } from '../../../daemon/backends/backend.js'
import { dataRangesOrData, zeroExtents, type AskRanges } from '../../../daemon/backends/extents.js'
import { SystemError } from '../../../native/index.js'

async function collect(start: number, end: number, ask: AskRanges): Promise<Extent[]> {
  const extents: Extent[] = []
  for await (const page of zeroExtents(start, end, ask)) extents.push(...page)
  return extents
}

const data = (start: number, length: number) => ({ start, length, zero: false, hole: false })
const zero = (start: number, length: number) => ({ start, length, zero: true, hole: false })

/** Answers from a list, `batch` ranges at a time. */
function storage(ranges: { start: number; end: number }[], batch: number): AskRanges {
  return async (start, end) => {
    const inside = ranges
      .filter((range) => range.end > start && range.start < end)
      .map((range) => ({ start: Math.max(range.start, start), end: Math.min(range.end, end) }))
    const some = inside.slice(0, batch)
    return { ranges: some, next: inside.length > batch ? some.at(-1)!.end : end }
  }
}

t.test('data and holes cover the range exactly', async (t) => {
  const ask = storage(
    [
      { start: 10, end: 20 },
      { start: 30, end: 40 },
    ],
    100,
  )
  t.same(await collect(0, 50, ask), [
    zero(0, 10),
    data(10, 10),
    zero(20, 10),
    data(30, 10),
    zero(40, 10),
  ])
  t.same(await collect(15, 35, ask), [data(15, 5), zero(20, 10), data(30, 5)])
})

t.test('neighbours are joined across batches', async (t) => {
  const ranges = [
    { start: 0, end: 10 },
    { start: 10, end: 20 },
    { start: 25, end: 30 },
  ]
  for (const batch of [1, 2, 3])
    t.same(await collect(0, 40, storage(ranges, batch)), [
      data(0, 20),
      zero(20, 5),
      data(25, 5),
      zero(30, 10),
    ])
})

t.test('an empty range has no extents', async (t) => {
  t.same(await collect(7, 7, storage([{ start: 0, end: 10 }], 1)), [])
})

t.test('all hole and all data are one extent', async (t) => {
  t.same(await collect(0, 10, storage([], 1)), [zero(0, 10)])
  t.same(await collect(0, 10, storage([{ start: 0, end: 10 }], 1)), [data(0, 10)])
})

t.test('storage that cannot tell has data everywhere', async (t) => {
  for (const code of ['EINVAL', 'EOPNOTSUPP', 'ENOTSUP']) {
    const ask = async () => {
      throw new SystemError(code, -22, 'lseek', 'test')
    }
    const cannotTell: AskRanges = (from, to, limit) => dataRangesOrData(-1, from, to, limit, ask)
    t.same(await collect(5, 10, cannotTell), [data(5, 5)])
  }
})

t.test('storage that fails is an error', async (t) => {
  const ask = async () => {
    throw new SystemError('EIO', -5, 'lseek', 'test')
  }
  const failing: AskRanges = (from, to, limit) => dataRangesOrData(-1, from, to, limit, ask)
  await t.rejects(collect(0, 10, failing), { code: 'EIO' })
})

t.test('an answer that leads nowhere ends as data', async (t) => {
  t.same(await collect(0, 10, async (start) => ({ ranges: [], next: start })), [data(0, 10)])
})
