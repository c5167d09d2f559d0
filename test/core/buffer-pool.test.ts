import t from 'tap'
import { BufferPool } from '../../core/buffer-pool.js'
import { PAGE_SIZE, isAligned } from '../../native/index.js'

const SIZE = 8192
const { signal } = new AbortController()
const pool = (count: number, waitTimeoutMs = 10_000) =>
  new BufferPool({ bufferSize: SIZE, maxBytes: count * SIZE, waitTimeoutMs })

t.test('buffers are of one size and start at a page', async (t) => {
  const buffer = await pool(1).acquire(signal)
  t.equal(buffer.length, SIZE)
  t.ok(isAligned(buffer, PAGE_SIZE))
})

t.test('those who wait are served in order', async (t) => {
  const buffers = pool(1)
  const buffer = await buffers.acquire(signal)
  const served: string[] = []
  const waiters = ['a', 'b', 'c'].map(async (name) => {
    const mine = await buffers.acquire(signal)
    served.push(name)
    buffers.release(mine)
  })
  t.equal(buffers.counts.waiting, 3)
  buffers.release(buffer)
  await Promise.all(waiters)
  t.same(served, ['a', 'b', 'c'])
  t.same(buffers.counts, { lent: 0, idle: 1, waiting: 0 })
})

t.test('a wait ends with 503 and a time to retry', async (t) => {
  const buffers = pool(1, 5)
  const buffer = await buffers.acquire(signal)
  const error: unknown = await buffers.acquire(signal).catch((thrown: unknown) => thrown)
  t.match(error, { code: 'ERR_BUFFERS_BUSY', statusCode: 503, retryAfter: Number })
  buffers.release(buffer)
  t.same(buffers.counts, { lent: 0, idle: 1, waiting: 0 })
})

t.test('an aborted wait rejects with its reason and leaves the line', async (t) => {
  const buffers = pool(1)
  const buffer = await buffers.acquire(signal)
  const abort = new AbortController()
  const waiting = buffers.acquire(abort.signal)
  abort.abort(new Error('cancelled'))
  await t.rejects(waiting, { message: 'cancelled' })
  await t.rejects(buffers.acquire(abort.signal), { message: 'cancelled' })
  buffers.release(buffer)
  t.same(buffers.counts, { lent: 0, idle: 1, waiting: 0 })
})

t.test('a second buffer is not taken from those who wait for a first', async (t) => {
  const buffers = pool(2)
  const first = await buffers.acquire(signal)
  const second = buffers.tryAcquire()
  t.ok(second)
  t.equal(buffers.tryAcquire(), undefined)
  const waiting = buffers.acquire(signal)
  buffers.release(first)
  t.equal(buffers.tryAcquire(), undefined)
  buffers.release(await waiting)
  t.ok(buffers.tryAcquire())
})

t.test('after a peak most buffers are let go', async (t) => {
  const buffers = pool(100)
  const lent = await Promise.all(Array.from({ length: 100 }, () => buffers.acquire(signal)))
  for (const buffer of lent) buffers.release(buffer)
  t.equal(buffers.counts.lent, 0)
  t.ok(buffers.counts.idle <= 8)
})

t.test('a buffer is released once', async (t) => {
  const buffers = pool(1)
  const buffer = await buffers.acquire(signal)
  buffers.release(buffer)
  t.throws(() => buffers.release(buffer), /not lent/)
  t.throws(() => buffers.release(Buffer.alloc(SIZE)), /not lent/)
})
