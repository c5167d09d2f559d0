import t from 'tap'
import { ExtentPages } from '../../../daemon/backends/extent-pages.js'

const extent = (start: number, length: number, facts: object) => ({
  start,
  length,
  zero: false,
  ...facts,
})

t.test('neighbours that say the same are joined, also across pages', async (t) => {
  const pages = new ExtentPages()
  t.strictSame(pages.take(), [])
  pages.add(extent(0, 5, { zero: true, hole: false }))
  pages.add(extent(5, 5, { zero: true, hole: false }))
  t.strictSame(pages.take(), [], 'the last may grow')
  pages.add(extent(10, 1, { zero: true, hole: false }))
  pages.add(extent(11, 1, { zero: true, hole: true }))
  pages.add(extent(12, 1, { zero: false, hole: true }))
  t.strictSame(pages.take(), [
    extent(0, 11, { zero: true, hole: false }),
    extent(11, 1, { zero: true, hole: true }),
  ])
  t.strictSame(pages.end(), [extent(12, 1, { zero: false, hole: true })])
  t.strictSame(pages.end(), [])
})

t.test('what is dirty is not joined with what is clean', async (t) => {
  const pages = new ExtentPages()
  pages.add(extent(0, 1, { dirty: true }))
  pages.add(extent(1, 1, { dirty: false }))
  pages.add(extent(2, 1, { dirty: false }))
  t.strictSame(pages.end(), [extent(0, 1, { dirty: true }), extent(1, 2, { dirty: false })])
})

t.test('a page is full at some size', async (t) => {
  const pages = new ExtentPages()
  let count = 0
  while (!pages.isFull) pages.add(extent(count, 1, { zero: ++count % 2 === 0 }))
  t.equal(pages.take().length, count - 1)
  t.notOk(pages.isFull)
})
