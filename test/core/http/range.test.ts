import t from 'tap'
import { parseContentRange, parseRange, resolveRange } from '../../../core/http/range.js'

const WRONG = { code: 'ERR_RANGE_NOT_SATISFIABLE', statusCode: 416 }

/** What a GET of `available` bytes under a ticket of `complete` bytes serves. */
function served(header: string, available: number, complete: number | bigint = available): unknown {
  return resolveRange(parseRange(header), available, complete)
}

t.test('a range with both ends is inclusive', async (t) => {
  t.strictSame(served('bytes=0-0', 10), { offset: 0, size: 1 })
  t.strictSame(served('bytes=3-7', 10), { offset: 3, size: 5 })
  t.strictSame(served('bytes=9-9', 10), { offset: 9, size: 1 })
  t.strictSame(served('bytes=0-9', 10), { offset: 0, size: 10 })
})

t.test('leading zeros are digits like others', async (t) => {
  t.strictSame(served('bytes=003-0007', 10), { offset: 3, size: 5 })
})

t.test('an open range goes to the end', async (t) => {
  t.strictSame(served('bytes=0-', 10), { offset: 0, size: 10 })
  t.strictSame(served('bytes=9-', 10), { offset: 9, size: 1 })
})

t.test('a suffix is the last bytes, at most all', async (t) => {
  t.strictSame(served('bytes=-1', 10), { offset: 9, size: 1 })
  t.strictSame(served('bytes=-10', 10), { offset: 0, size: 10 })
  t.strictSame(served('bytes=-11', 10), { offset: 0, size: 10 })
  t.strictSame(served(`bytes=-${2n ** 70n}`, 10), { offset: 0, size: 10 })
})

t.test('syntax errors are 416 without a size', async (t) => {
  const headers = [
    ...['', 'bytes', 'bytes=', 'bytes=-', 'bytes=a-b', 'bytes=1', 'bytes=1-2-3', 'bytes=+1-2'],
    ...['bytes=0-1,5-6', 'bytes=0-1,', 'bytes= 0-1', 'bytes=0 -1', ' bytes=0-1', 'bytes=0-1 '],
    ...['Bytes=0-1', 'BYTES=0-1', 'items=0-1', 'bytes 0-1', 'bytes=1.5-2', 'bytes=0x1-0x2'],
    ...['bytes=--1', 'bytes=1--2', 'bytes=٠-١', 'bytes=0-1\n', 'bytes=7-3', 'bytes=10-9'],
  ]
  for (const header of headers) {
    t.throws(() => parseRange(header), { ...WRONG, headers: {} }, JSON.stringify(header))
  }
})

t.test('ends are compared exactly, also beyond what a number holds', async (t) => {
  t.throws(() => parseRange(`bytes=${2n ** 64n + 1n}-${2n ** 64n}`), { ...WRONG, headers: {} })
  t.throws(() => parseRange(`bytes=${2n ** 53n + 1n}-${2n ** 53n}`), { ...WRONG, headers: {} })
  t.same(parseRange(`bytes=${2n ** 64n}-${2n ** 64n}`).kind, 'from-to')
})

t.test('one byte past the end is an error that tells the size', async (t) => {
  const wrong = (size: number): typeof WRONG & { headers: object } => ({
    ...WRONG,
    headers: { 'content-range': `bytes */${size}` },
  })
  t.throws(() => served('bytes=0-10', 10), wrong(10))
  t.throws(() => served('bytes=10-10', 10), wrong(10))
  t.throws(() => served('bytes=10-', 10), wrong(10))
  t.throws(() => served('bytes=-0', 10), wrong(10))
  t.throws(() => served('bytes=0-0', 0), wrong(0))
  t.throws(() => served('bytes=0-', 0), wrong(0))
  t.throws(() => served('bytes=-1', 0), wrong(0))
  t.throws(() => served(`bytes=${2n ** 70n}-`, 10), wrong(10))
  t.throws(() => served(`bytes=0-${2n ** 70n}`, 10), wrong(10))
})

t.test('within the ticket but past the image, the size told is the image’s', async (t) => {
  const image = { ...WRONG, headers: { 'content-range': 'bytes */10' } }
  const ticket = { ...WRONG, headers: { 'content-range': 'bytes */20' } }
  t.throws(() => served('bytes=5-15', 10, 20), image)
  t.throws(() => served('bytes=5-20', 10, 20), ticket)
  t.throws(() => served('bytes=10-', 10, 20), image)
  t.throws(() => served(`bytes=0-${2n ** 60n}`, 10, 2n ** 64n), image)
  t.strictSame(served('bytes=-4', 10, 20), { offset: 6, size: 4 })
})

t.test('of a Content-Range only the offset counts', async (t) => {
  t.equal(parseContentRange('bytes 0-0/1'), 0)
  t.equal(parseContentRange('bytes 5-9/10'), 5)
  t.equal(parseContentRange('bytes 5-9/*'), 5)
  t.equal(parseContentRange('bytes 5-*/*'), 5)
  t.equal(parseContentRange('bytes 5-*/3'), 5)
  t.equal(parseContentRange('bytes 007-9/*'), 7)
  t.equal(parseContentRange(`bytes ${2n ** 64n}-*/*`), Number.MAX_SAFE_INTEGER)
})

t.test('a Content-Range that makes no sense is refused', async (t) => {
  const headers = [
    ...['', 'bytes', 'bytes 0-1', 'bytes=0-1/2', 'bytes */10', 'bytes -1/10', 'bytes 0-/10'],
    ...['bytes a-b/c', 'bytes 0-1/', 'Bytes 0-1/2', 'bytes  0-1/2', 'bytes 0-1/2 ', 'items 0-1/2'],
    ...['bytes 5-4/10', 'bytes 0-10/10', 'bytes 0-0/0', `bytes ${2n ** 64n + 1n}-${2n ** 64n}/*`],
    ...['bytes 0-1/2,bytes 2-3/4', 'bytes +0-1/2', 'bytes 0--1/2'],
  ]
  for (const header of headers) {
    const wrong = { code: 'ERR_BAD_REQUEST', statusCode: 400 }
    t.throws(() => parseContentRange(header), wrong, JSON.stringify(header))
  }
})
