import t from 'tap'
import { Coverage } from '../../../../daemon/backends/nbd/coverage.js'
import { random } from '../images.js'

t.test('parts in any order cover the whole', async (t) => {
  const coverage = new Coverage(100, 100)
  t.equal(coverage.isComplete, false)
  for (const [offset, length] of [
    [150, 10],
    [100, 10],
    [190, 10],
    [110, 40],
  ] as const)
    t.equal(coverage.add(offset, length), undefined)
  t.equal(coverage.isComplete, false)
  t.equal(coverage.add(160, 30), undefined)
  t.equal(coverage.isComplete, true)
})

t.test('what is outside or there already is refused', async (t) => {
  const coverage = new Coverage(100, 100)
  coverage.add(120, 20)
  for (const [offset, length] of [
    [99, 1],
    [199, 2],
    [200, 1],
    [0, 1000],
  ] as const)
    t.equal(coverage.add(offset, length), 'outside of the request')
  for (const [offset, length] of [
    [120, 20],
    [119, 2],
    [139, 1],
    [100, 100],
    [130, 1],
  ] as const)
    t.equal(coverage.add(offset, length), 'that overlaps')
  t.equal(coverage.add(140, 60), undefined)
  t.equal(coverage.add(100, 20), undefined)
  t.ok(coverage.isComplete)
})

t.test('random parts agree with a map of bytes', async (t) => {
  const next = random(7)
  let mistakes = 0
  for (let round = 0; round < 300; round++) {
    const coverage = new Coverage(10, 50)
    const bytes = new Set<number>()
    for (let step = 0; step < 40; step++) {
      const offset = 10 + next(50)
      const length = 1 + next(Math.min(8, 60 - offset))
      const range = Array.from({ length }, (_, index) => offset + index)
      const isFree = range.every((byte) => !bytes.has(byte))
      if ((coverage.add(offset, length) === undefined) !== isFree) mistakes++
      if (isFree) range.forEach((byte) => bytes.add(byte))
      if (coverage.isComplete !== (bytes.size === 50)) mistakes++
    }
  }
  t.equal(mistakes, 0)
})
