import { PassThrough, Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { RequestBody, readAll, takeHeld, type BodyOptions } from '../../../core/http/body.js'
import { until } from '../../support/wait.js'

const INCOMPLETE = { code: 'ERR_INCOMPLETE_BODY', statusCode: 400 }
const TIMEOUT = { code: 'ERR_BODY_TIMEOUT', statusCode: 408 }

interface Fixture {
  readonly body: RequestBody
  /** How often reading was started. */
  readonly starts: () => number
  /** Sizes of the pieces that arrived. */
  readonly received: number[]
}

function make(t: Test, stream: Readable, options: Partial<BodyOptions> = {}): Fixture {
  let starts = 0
  const received: number[] = []
  const body = new RequestBody(stream, {
    inactivityMs: 60_000,
    minRate: 0,
    signal: new AbortController().signal,
    onStart: () => {
      starts++
    },
    onReceived: (size) => received.push(size),
    ...options,
  })
  t.teardown(() => {
    body.release()
    stream.destroy()
  })
  return { body, starts: () => starts, received }
}

/** What one read of so many bytes gives. */
async function take(body: RequestBody, size: number): Promise<string> {
  const target = Buffer.alloc(size, '.')
  return target.toString('latin1', 0, await body.read(target))
}

const turn = (): Promise<void> => new Promise(setImmediate)

t.test('nothing is read or asked for before the first read', async (t) => {
  const stream = new PassThrough()
  const { body, starts, received } = make(t, stream)
  stream.write('hello')
  await turn()
  t.equal(starts(), 0)
  t.strictSame(received, [])
  t.equal(stream.readableFlowing, null)
  t.equal(await take(body, 5), 'hello')
  t.equal(starts(), 1)
})

t.test('a target is filled from as many pieces as it takes', async (t) => {
  const stream = new PassThrough()
  const { body, received, starts } = make(t, stream)
  const read = take(body, 10)
  for (const piece of ['abc', 'defg', 'hij']) {
    stream.write(piece)
    await turn()
  }
  t.equal(await read, 'abcdefghij')
  t.strictSame(received, [3, 4, 3])
  stream.end('k')
  t.equal(await take(body, 10), 'k')
  t.equal(await take(body, 10), '')
  t.equal(await take(body, 10), '', 'the end stays the end')
  t.equal(starts(), 1)
})

t.test('what does not fit is kept for the next reads', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.end('abcdefghij')
  t.equal(await take(body, 4), 'abcd')
  t.equal(await take(body, 4), 'efgh')
  t.equal(await take(body, 4), 'ij')
  t.equal(await take(body, 4), '')
})

t.test('an empty body is complete at once', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.end()
  t.equal(await take(body, 4), '')
})

t.test('a stream that ended before is an empty body', async (t) => {
  const stream = new PassThrough()
  stream.end().resume()
  await until('its end', () => stream.readableEnded)
  t.equal(await take(make(t, stream).body, 4), '')
})

t.test('a stream that was destroyed before is an incomplete body', async (t) => {
  const stream = new PassThrough()
  stream.destroy()
  await turn()
  await t.rejects(take(make(t, stream).body, 4), INCOMPLETE)
})

t.test('what came before a cut is handed over first', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  const read = take(body, 10)
  stream.write('abc')
  await turn()
  stream.destroy()
  t.equal(await read, 'abc')
  await t.rejects(take(body, 10), INCOMPLETE)
  await t.rejects(take(body, 10), INCOMPLETE)
})

t.test('a cut while nobody reads is told by the next read', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.write('abcdef')
  t.equal(await take(body, 2), 'ab')
  stream.destroy()
  await turn()
  t.equal(await take(body, 10), 'cdef')
  await t.rejects(take(body, 10), INCOMPLETE)
})

t.test('cut() before the first read keeps what the stream held', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.write('abc')
  body.cut()
  stream.destroy()
  t.equal(await take(body, 10), 'abc')
  await t.rejects(take(body, 10), INCOMPLETE)
})

t.test('cut() in the middle ends a read that waits', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  const empty = take(body, 10)
  await turn()
  body.cut()
  await t.rejects(empty, INCOMPLETE)
})

t.test('complete() keeps what the stream held, and that is all', async (t) => {
  for (const readFirst of [0, 1]) {
    const stream = new PassThrough()
    const { body } = make(t, stream)
    stream.write('abc')
    const first = readFirst > 0 ? await take(body, readFirst) : ''
    stream.write('def')
    body.complete()
    stream.destroy()
    await turn()
    t.equal(first + (await take(body, 10)), 'abcdef')
    t.equal(await take(body, 10), '')
  }
})

t.test('complete() ends a read that waits', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  const read = take(body, 10)
  stream.write('abc')
  await turn()
  body.complete()
  stream.destroy()
  t.equal(await read, 'abc')
  t.equal(await take(body, 10), '')
})

t.test('a body that is complete is not cut', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.end('abc')
  t.equal(await take(body, 10), 'abc')
  body.cut()
  stream.destroy()
  await turn()
  t.equal(await take(body, 10), '')
})

t.test('what was held before comes first', async (t) => {
  const stream = new PassThrough()
  stream.write('abc')
  const held = takeHeld(stream)
  t.equal(held.toString(), 'abc')
  t.equal(takeHeld(stream).length, 0)
  const { body } = make(t, stream, { held })
  stream.end('def')
  t.equal(await take(body, 10), 'abcdef')
  t.equal(await take(body, 10), '')
})

t.test('an abort ends a wait with its reason', async (t) => {
  const abort = new AbortController()
  const { body } = make(t, new PassThrough(), { signal: abort.signal })
  const read = take(body, 10)
  await turn()
  abort.abort(new Error('canceled'))
  await t.rejects(read, { message: 'canceled' })
  await t.rejects(take(body, 10), { message: 'canceled' })
})

t.test('an abort before the first read is seen by it', async (t) => {
  const abort = new AbortController()
  abort.abort(new Error('canceled'))
  const stream = new PassThrough()
  const { body } = make(t, stream, { signal: abort.signal })
  await t.rejects(take(body, 10), { message: 'canceled' })
})

t.test('after an abort what has come is handed over first', async (t) => {
  const abort = new AbortController()
  const stream = new PassThrough()
  const { body } = make(t, stream, { signal: abort.signal })
  const read = take(body, 10)
  stream.write('abc')
  await turn()
  abort.abort(new Error('canceled'))
  t.equal(await read, 'abc')
  await t.rejects(take(body, 10), { message: 'canceled' })
})

t.test('a client that sends nothing runs out of time', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream, { inactivityMs: 40 })
  stream.write('abc')
  const start = performance.now()
  t.equal(await take(body, 10), 'abc', 'what it sent is not lost')
  t.ok(performance.now() - start >= 20)
  await t.rejects(take(body, 10), TIMEOUT)
})

t.test('time between reads is not the client’s', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream, { inactivityMs: 40, minRate: 1000 })
  stream.write('ab')
  t.equal(await take(body, 2), 'ab')
  await new Promise((resolve) => setTimeout(resolve, 100))
  const read = take(body, 2)
  stream.end('cd')
  t.equal(await read, 'cd')
})

t.test('a client below the minimum rate runs out of time', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream, { inactivityMs: 60, minRate: 100_000 })
  const drip = setInterval(() => stream.write('x'), 5)
  t.teardown(() => clearInterval(drip))
  t.match(await take(body, 1000), /^x+$/)
  await t.rejects(take(body, 1000), TIMEOUT)
})

t.test('no more is taken from the stream than somebody wants', async (t) => {
  let made = 0
  const stream = new Readable({
    highWaterMark: 1000,
    read() {
      made++
      this.push(Buffer.alloc(1000))
    },
  })
  const { body } = make(t, stream)
  await body.read(Buffer.alloc(1500))
  await turn()
  await turn()
  const after = made
  t.ok(after <= 5, `${after} pieces`)
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(made, after)
  await body.read(Buffer.alloc(1500))
  t.ok(made <= after + 3)
})

t.test('a released body leaves the stream and the signal alone', async (t) => {
  const stream = new PassThrough()
  const abort = new AbortController()
  const { body, received } = make(t, stream, { signal: abort.signal })
  stream.write('abc')
  t.equal(await take(body, 3), 'abc')
  body.release()
  body.release()
  abort.abort(new Error('canceled'))
  stream.resume()
  stream.end('rest')
  await until('its end', () => stream.readableEnded)
  t.strictSame(received, [3])
  t.strictSame(
    ['data', 'close'].map((event) => stream.listenerCount(event)),
    [0, 0],
  )
})

t.test('random pieces and random targets give the bytes in order', async (t) => {
  let state = 7
  const next = (limit: number): number => (state = (state * 48271) % 2147483647) % limit
  const content = Buffer.from(Array.from({ length: 20_000 }, () => next(256)))
  const stream = new PassThrough({ highWaterMark: 512 })
  const { body } = make(t, stream)
  const feed = async (): Promise<void> => {
    for (let from = 0; from < content.length;) {
      const to = Math.min(content.length, from + 1 + next(700))
      if (!stream.write(content.subarray(from, to))) {
        await new Promise((resolve) => stream.once('drain', resolve))
      }
      if (next(4) === 0) await turn()
      from = to
    }
    stream.end()
  }
  const fed = feed()
  const parts: Buffer[] = []
  for (let isLast = false; !isLast;) {
    const target = Buffer.alloc(1 + next(900))
    const size = await body.read(target)
    parts.push(target.subarray(0, size))
    if (size < target.length) t.equal(await body.read(target), 0, 'short only at the end')
    isLast = size < target.length
  }
  await fed
  t.ok(Buffer.concat(parts).equals(content))
})

t.test('readAll takes a small body whole', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.write('ab')
  stream.end('cd')
  t.equal((await readAll(body, 4)).toString(), 'abcd')
})

t.test('readAll of nothing is nothing', async (t) => {
  const stream = new PassThrough()
  stream.end()
  t.equal((await readAll(make(t, stream).body, 0)).length, 0)
})

t.test('readAll refuses one byte too many, without waiting for the rest', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.write('abcde')
  await t.rejects(readAll(body, 4), { code: 'ERR_BODY_TOO_LARGE', statusCode: 413 })
})

t.test('readAll of a body that is cut is an error, never a part', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  stream.write('abc')
  setImmediate(() => stream.destroy())
  await t.rejects(readAll(body, 10), INCOMPLETE)
})

t.test('a read that lingers gives what came, and waits for the first byte only', async (t) => {
  const stream = new PassThrough()
  const { body } = make(t, stream)
  const target = Buffer.alloc(10, '.')
  const waiting = body.read(target, 1)
  stream.write('one')
  t.equal(await waiting, 3)
  stream.write('two')
  await turn()
  t.equal(await body.read(target, 1), 3, 'bytes that were there already count')
  t.equal(target.toString(), 'two.......')
  const full = body.read(target, 60_000)
  stream.write('0123456789abc')
  t.equal(await full, 10, 'a full target does not wait')
  stream.end()
  t.equal(await body.read(target, 60_000), 3, 'nor does the end')
  t.equal(await body.read(target, 60_000), 0)
})
