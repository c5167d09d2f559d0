import t from 'tap'
import { ByteRanges } from '../../../core/tickets/byte-ranges.js'

function totals(ranges: readonly (readonly [number, number])[]): number[] {
  const set = new ByteRanges()
  return ranges.map(([offset, size]) => {
    set.add(offset, size)
    return set.total
  })
}

t.test('nothing is in a new set, and an empty range adds nothing', async (t) => {
  t.equal(new ByteRanges().total, 0)
  t.strictSame(
    totals([
      [0, 0],
      [10, 0],
      [5, -1],
    ]),
    [0, 0, 0],
  )
})

t.test('bytes count once, however often they are added', async (t) => {
  t.strictSame(
    totals([
      [0, 10],
      [0, 10],
      [5, 10],
      [3, 2],
    ]),
    [10, 10, 15, 15],
  )
})

t.test('a range that fills a gap joins its neighbours', async (t) => {
  t.strictSame(
    totals([
      [0, 10],
      [20, 10],
      [10, 10],
      [0, 30],
    ]),
    [10, 20, 30, 30],
  )
})

t.test('a range over several others replaces them', async (t) => {
  t.strictSame(
    totals([
      [10, 1],
      [20, 1],
      [30, 1],
      [40, 1],
      [15, 20],
      [0, 100],
    ]),
    [1, 2, 3, 4, 22, 100],
  )
})

t.test('ranges that are added backwards are joined, too', async (t) => {
  t.strictSame(
    totals([
      [20, 10],
      [10, 10],
      [0, 10],
      [0, 30],
    ]),
    [10, 20, 30, 30],
  )
})

t.test('offsets may be as large as an image', async (t) => {
  t.strictSame(
    totals([
      [2 ** 52, 10],
      [0, 10],
      [2 ** 52 + 5, 10],
    ]),
    [10, 20, 25],
  )
})

/** Park and Miller: repeatable. */
function random(seed: number): (limit: number) => number {
  let state = seed
  return (limit) => {
    state = (state * 48271) % 2147483647
    return state % limit
  }
}

t.test('random ranges count as in a set of bytes', async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const next = random(seed)
    const model = new Set<number>()
    const set = new ByteRanges()
    const largest = 1 + next(30)
    const totalsSeen: number[] = []
    const expected: number[] = []
    for (let step = 0; step < 200; step++) {
      const offset = next(500)
      const size = next(largest)
      set.add(offset, size)
      for (let byte = offset; byte < offset + size; byte++) model.add(byte)
      totalsSeen.push(set.total)
      expected.push(model.size)
    }
    if (totalsSeen.join() !== expected.join()) t.strictSame(totalsSeen, expected, `seed ${seed}`)
  }
  t.pass('40 seeds')
})

const MAX_SPANS = 100_000

t.test('past the cap a lonely range is not counted, and never too much is', async (t) => {
  const set = new ByteRanges()
  for (let index = 0; index < MAX_SPANS; index++) set.add(index * 10, 1)
  t.equal(set.total, MAX_SPANS)
  set.add(MAX_SPANS * 10, 1)
  t.equal(set.total, MAX_SPANS, 'not recorded')
  set.add(5, 1)
  t.equal(set.total, MAX_SPANS, 'not recorded between others either')
  set.add(1, 1)
  t.equal(set.total, MAX_SPANS + 1, 'what touches a span is')
  set.add(2, 9)
  t.equal(set.total, MAX_SPANS + 9, 'two spans became one')
  set.add(MAX_SPANS * 10, 1)
  t.equal(set.total, MAX_SPANS + 10, 'so there is place again')
  set.add(0, MAX_SPANS * 10 + 1)
  t.equal(set.total, MAX_SPANS * 10 + 1, 'everything')
})

t.test('a million sequential pieces are added in no time', async (t) => {
  const set = new ByteRanges()
  const start = performance.now()
  for (let index = 0; index < 1_000_000; index++) set.add(index * 4096, 4096)
  t.equal(set.total, 4096e6)
  t.ok(performance.now() - start < 2000)
})

t.test('what is taken out is as if it had never been added', async (t) => {
  const set = new ByteRanges()
  const after = (offset: number, size: number): number => {
    set.remove(offset, size)
    return set.total
  }
  t.equal(after(0, 100), 0, 'of nothing')
  set.add(10, 20)
  set.add(40, 20)
  t.equal(after(0, 10), 40, 'before')
  t.equal(after(30, 10), 40, 'between')
  t.equal(after(60, 1), 40, 'behind')
  t.equal(after(15, 0), 40)
  t.equal(after(15, 5), 35, 'a hole')
  set.add(10, 10)
  t.equal(set.total, 40, 'is filled')
  t.equal(after(25, 20), 30, 'the end of one and the beginning of another')
  t.equal(after(0, 1000), 0)
  set.add(0, 1)
  t.equal(set.total, 1)
})
