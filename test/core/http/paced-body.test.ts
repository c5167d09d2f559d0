/** Both kinds of bodies, held back by a pace. */
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { RequestBody, type BodyOptions } from '../../../core/http/body.js'
import { PacedBody } from '../../../core/http/paced-body.js'
import { WithheldBody } from '../../../core/http/withheld-body.js'
import { RateLimiter } from '../../../core/rate/rate-limiter.js'
import { VirtualClock } from '../rate/virtual-clock.js'

const INCOMPLETE = { code: 'ERR_INCOMPLETE_BODY', statusCode: 400 }
const TIMEOUT = { code: 'ERR_BODY_TIMEOUT', statusCode: 408 }

/** The client of a body, and what serves it. */
interface Client {
  readonly body: RequestBody | WithheldBody
  send(text: string): void
  /** The body is complete. */
  end(): void
  /** The client has gone in the middle. */
  leave(): void
  /** Whether anybody has asked for bytes yet. */
  isAsked(): boolean
}

function streamed(options: BodyOptions): Client {
  const stream = new PassThrough({ highWaterMark: 8192 })
  const body = new RequestBody(stream, options)
  return {
    body,
    send: (text) => void stream.write(text),
    end: () => void stream.end(),
    leave: () => body.cut(),
    isAsked: () => stream.readableFlowing !== null,
  }
}

/** In place of the native front: bytes that have come fill what is to be read. */
function withheld(options: BodyOptions, length: number): Client {
  let held = Buffer.alloc(0)
  let isOver = false
  let isAsked = false
  const pending: { target: Buffer; filled: number; resolve: (size: number) => void }[] = []
  const serve = (): void => {
    for (let read = pending[0]; read !== undefined; read = pending[0]) {
      const copied = held.copy(read.target, read.filled)
      read.filled += copied
      held = held.subarray(copied)
      if (read.filled < read.target.length && !isOver) return
      pending.shift()
      read.resolve(read.filled)
    }
  }
  const stop = (): void => {
    isOver = true
    serve()
  }
  const source = {
    length,
    cancel: stop,
    read: (target: Buffer) => {
      isAsked = true
      return new Promise<number>((resolve) => {
        pending.push({ target, filled: 0, resolve })
        serve()
      })
    },
  }
  return {
    body: new WithheldBody(source, options),
    send: (text) => {
      held = Buffer.concat([held, Buffer.from(text)])
      serve()
    },
    end: () => undefined, // its length tells
    leave: stop,
    isAsked: () => isAsked,
  }
}

const KINDS = { streamed, withheld }

const turn = (): Promise<void> => new Promise(setImmediate)

/** What one read of so many bytes gives. */
async function take(body: PacedBody, size: number): Promise<string> {
  const target = Buffer.alloc(size, '.')
  return target.toString('latin1', 0, await body.read(target))
}

for (const kind of ['streamed', 'withheld'] as const) {
  /** A body of which 1024 bytes may be read at once, and as many each second. */
  const paced = (t: Test, length: number, over: Partial<BodyOptions> = {}) => {
    const clock = new VirtualClock()
    const pace = new RateLimiter({ clock }).share(1024)
    let starts = 0
    const options = {
      inactivityMs: 60_000,
      minRate: 0,
      signal: new AbortController().signal,
      onStart: () => {
        starts++
      },
      onReceived: () => undefined,
      ...over,
    }
    const client = KINDS[kind](options, length)
    const body = new PacedBody(client.body, pace)
    t.teardown(() => body.release())
    return { body, client, clock, pace, starts: () => starts }
  }
  const use = (pace: { take(size: number, signal: AbortSignal): Promise<number> }) =>
    pace.take(1024, new AbortController().signal)

  t.test(`a ${kind} body`, async (t) => {
    t.test('is read as fast as its pace allows', async (t) => {
      const { body, client, clock, starts } = paced(t, 2500)
      client.send('x'.repeat(2500))
      client.end()
      t.equal((await take(body, 5000)).length, 1024)
      const next = take(body, 5000)
      await clock.pass(999)
      t.equal(await Promise.race([next, turn().then(() => 'held back')]), 'held back')
      await clock.pass(1)
      t.equal((await next).length, 1024)
      t.equal(starts(), 1)
      const last = take(body, 5000)
      await clock.pass(1000)
      t.equal((await last).length, 452)
      t.equal(await take(body, 5000), '', 'the end is not waited for')
      t.equal(clock.timers, 0)
    })

    t.test('is not asked for before the pace allows some', async (t) => {
      const { body, client, pace, clock, starts } = paced(t, 5)
      await use(pace)
      client.send('hello')
      const read = take(body, 5)
      await clock.pass(500)
      t.equal(starts(), 0)
      t.notOk(client.isAsked())
      await clock.pass(500)
      t.equal(await read, 'hello')
      t.equal(starts(), 1)
    })

    t.test('is not to blame for the time in which it is held back', async (t) => {
      const { body, client, pace, clock } = paced(t, 4, { inactivityMs: 20, minRate: 1000 })
      await use(pace)
      const read = take(body, 2)
      await new Promise((resolve) => setTimeout(resolve, 100))
      client.send('ab')
      await clock.pass(1000)
      t.equal(await read, 'ab')
      await clock.pass(10)
      await t.rejects(take(body, 2), TIMEOUT)
    })

    t.test('is not held back any more once it is aborted', async (t) => {
      const abort = new AbortController()
      const { body, client, pace, clock } = paced(t, 3, { signal: abort.signal })
      await use(pace)
      client.send('abc')
      const read = take(body, 3)
      await turn()
      const reason = new Error('canceled')
      abort.abort(reason)
      await t.rejects(read, reason)
      t.equal(clock.timers, 0)
    })

    t.test('hands over what is here when its client has gone', async (t) => {
      const closed = new AbortController()
      const { body, client, pace, clock } = paced(t, 10, { closed: closed.signal })
      await use(pace)
      client.send('abc')
      await turn()
      const read = take(body, 10)
      await turn()
      closed.abort()
      client.leave()
      t.equal(await read, 'abc')
      await t.rejects(take(body, 10), INCOMPLETE)
      t.equal(clock.timers, 0)
    })

    t.test('goes on when the limit is lifted', async (t) => {
      const { body, client, pace } = paced(t, 3)
      await use(pace)
      client.send('abc')
      const read = take(body, 3)
      await turn()
      pace.setRate(0)
      t.equal(await read, 'abc')
    })

    t.test('is read in order when the limit is lifted during a read', async (t) => {
      const { body, client, pace } = paced(t, 4096)
      const [even, odd] = [Buffer.alloc(2048), Buffer.alloc(2048)]
      const read = body.read(even)
      await turn()
      pace.setRate(0)
      body.ahead(odd)
      client.send('a'.repeat(1024))
      t.equal(await read, 1024)
      const rest = body.read(even.subarray(1024))
      body.ahead(odd)
      client.send('b'.repeat(1024) + 'c'.repeat(2048))
      t.equal(await rest, 1024)
      t.equal(await body.read(odd), 2048)
      t.equal(even.toString(), 'a'.repeat(1024) + 'b'.repeat(1024))
      t.equal(odd.toString(), 'c'.repeat(2048))
    })
  })
}

t.test('what was allowed and did not come is given back', async (t) => {
  const stream = new PassThrough()
  const clock = new VirtualClock()
  const options = {
    inactivityMs: 60_000,
    minRate: 0,
    signal: new AbortController().signal,
    onStart: () => undefined,
    onReceived: () => undefined,
  }
  const body = new PacedBody(
    new RequestBody(stream, options),
    new RateLimiter({ clock }).share(1024),
  )
  t.teardown(() => body.release())
  const target = Buffer.alloc(5000)
  stream.write('a')
  t.equal(await body.read(target, 5), 1)
  await clock.pass(1)
  stream.write('b')
  t.equal(await body.read(target, 5), 1)
  t.equal(clock.timers, 0)
})

t.test('a streamed body is over however its stream ends', async (t) => {
  for (const end of ['cut', 'complete', 'close'] as const) {
    const stream = new PassThrough()
    const clock = new VirtualClock()
    const inner = new RequestBody(stream, {
      inactivityMs: 60_000,
      minRate: 0,
      signal: new AbortController().signal,
      onStart: () => undefined,
      onReceived: () => undefined,
    })
    const pace = new RateLimiter({ clock }).share(1024)
    const body = new PacedBody(inner, pace)
    t.teardown(() => body.release())
    await pace.take(1024, new AbortController().signal)
    stream.write('abc')
    await turn()
    const read = take(body, 10)
    await turn()
    if (end === 'close') stream.emit('close')
    else inner[end]()
    t.equal(await read, 'abc', end)
    if (end === 'complete') t.equal(await take(body, 10), '')
    else await t.rejects(take(body, 10), INCOMPLETE, end)
    t.equal(clock.timers, 0, end)
  }
})
