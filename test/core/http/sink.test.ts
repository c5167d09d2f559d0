import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { ResponseSink, type SinkOptions } from '../../../core/http/sink.js'
import { RateLimiter } from '../../../core/rate/rate-limiter.js'
import { VirtualClock } from '../rate/virtual-clock.js'

const KIB = 1024

interface Written {
  readonly chunk: Buffer
  readonly done: (error?: Error) => void
}

interface Fixture {
  readonly sink: ResponseSink
  readonly written: Written[]
  /** What happened, in order: 'start', sizes that were sent, 'timeout'. */
  readonly events: (string | number)[]
}

/** A stream whose writes end when the test says so. */
function make(t: Test, options: Partial<SinkOptions> = {}): Fixture {
  const written: Written[] = []
  const events: (string | number)[] = []
  const stream = {
    write: (chunk: Buffer, callback: (error?: Error | null) => void) => {
      written.push({ chunk, done: (error) => callback(error ?? null) })
      return false
    },
  }
  const sink = new ResponseSink(stream, {
    inactivityMs: 60_000,
    minRate: 0,
    closed: new AbortController().signal,
    onStart: () => events.push('start'),
    onSent: (size) => events.push(size),
    onTimeout: () => events.push('timeout'),
    ...options,
  })
  t.teardown(() => sink.release())
  return { sink, written, events }
}

const turn = (): Promise<void> => new Promise(setImmediate)

/** Lets all writes end at once, and tells their sizes. */
async function drain(written: Written[], promise: Promise<void>): Promise<number[]> {
  const sizes: number[] = []
  const writer = setInterval(() => {
    for (const { chunk, done } of written.splice(0)) {
      sizes.push(chunk.length)
      done()
    }
  }, 1)
  await promise.finally(() => clearInterval(writer))
  return sizes
}

t.test('the header goes before the first byte, once', async (t) => {
  const { sink, written, events } = make(t)
  t.strictSame(events, [])
  await drain(written, sink.write(Buffer.from('abc')))
  await drain(written, sink.write(Buffer.from('de')))
  sink.start()
  t.strictSame(events, ['start', 3, 2])
})

t.test('an empty body is a header', async (t) => {
  const { sink, written, events } = make(t)
  sink.start()
  sink.start()
  t.strictSame(events, ['start'])
  await sink.write(Buffer.alloc(0))
  t.equal(written.length, 0)
})

t.test('the memory is free only when the stream has taken it', async (t) => {
  const { sink, written, events } = make(t)
  let isFree = false
  const write = sink.write(Buffer.from('abc')).then(() => (isFree = true))
  await turn()
  t.equal(isFree, false)
  t.strictSame(events, ['start'])
  written[0]?.done()
  await write
  t.strictSame(events, ['start', 3])
})

t.test('one piece is under way at a time', async (t) => {
  const { sink, written } = make(t)
  const write = sink.write(Buffer.alloc(300 * KIB))
  await turn()
  t.equal(written.length, 1)
  written[0]?.done()
  await turn()
  t.equal(written.length, 2)
  written.shift()
  await drain(written, write)
})

t.test('pieces grow while they go out quickly, up to a megabyte', async (t) => {
  const { sink, written } = make(t)
  const sizes = await drain(written, sink.write(Buffer.alloc(5000 * KIB)))
  t.strictSame(
    sizes.map((size) => size / KIB),
    [64, 128, 256, 512, 1024, 1024, 1024, 968],
  )
  const more = await drain(written, sink.write(Buffer.alloc(2048 * KIB)))
  t.strictSame(
    more.map((size) => size / KIB),
    [1024, 1024],
    'the next chunk goes on so',
  )
})

t.test('the bytes are those of the chunk, in order', async (t) => {
  const { sink, written } = make(t)
  const chunk = Buffer.from(Array.from({ length: 200 * KIB }, (_, index) => index % 251))
  const parts: Buffer[] = []
  const write = sink.write(chunk)
  for (let sent = 0; sent < chunk.length;) {
    const [piece] = written.splice(0)
    if (piece !== undefined) {
      sent += piece.chunk.length
      parts.push(Buffer.from(piece.chunk))
      piece.done()
    }
    await turn()
  }
  await write
  t.ok(Buffer.concat(parts).equals(chunk))
})

t.test('after a slow piece they are small again', async (t) => {
  const { sink, written } = make(t)
  await drain(written, sink.write(Buffer.alloc(2048 * KIB)))
  const real = performance.now.bind(performance)
  const clock = mock.method(performance, 'now', real)
  t.teardown(() => clock.mock.restore())
  const write = sink.write(Buffer.alloc(1200 * KIB))
  await turn()
  t.equal(written[0]?.chunk.length, 1024 * KIB)
  clock.mock.mockImplementation(() => real() + 1500)
  written.shift()?.done()
  await turn()
  t.equal(written[0]?.chunk.length, 64 * KIB)
  await drain(written, write)
})

t.test('a write that fails is told, and nothing more is written', async (t) => {
  const { sink, written, events } = make(t)
  const write = sink.write(Buffer.alloc(300 * KIB))
  written[0]?.done()
  await turn()
  written[1]?.done(new Error('connection reset'))
  await t.rejects(write, { code: 'ERR_CLIENT_GONE', cause: { message: 'connection reset' } })
  t.equal(written.length, 2)
  t.strictSame(events, ['start', 64 * KIB], 'what failed is not counted as sent')
})

t.test(
  'a client that takes nothing is given up, and the write ends with its connection',
  async (t) => {
    const { sink, written, events } = make(t, {
      inactivityMs: 40,
      onTimeout: () => written[0]?.done(new Error('cut')),
    })
    await t.rejects(sink.write(Buffer.from('abc')), {
      code: 'ERR_CLIENT_GONE',
      cause: { message: 'cut' },
    })
    t.strictSame(events, ['start'])
  },
)

t.test('a client that takes too little is given up', async (t) => {
  const { sink, written, events } = make(t, { inactivityMs: 80, minRate: 1_000_000 })
  const drip = setInterval(() => written.shift()?.done(), 5)
  t.teardown(() => clearInterval(drip))
  while (!events.includes('timeout')) await sink.write(Buffer.from('x'))
  t.pass()
})

t.test('time between writes is not the client’s', async (t) => {
  const { sink, written, events } = make(t, { inactivityMs: 40, minRate: 1000 })
  await drain(written, sink.write(Buffer.from('abc')))
  await new Promise((resolve) => setTimeout(resolve, 100))
  await drain(written, sink.write(Buffer.from('abc')))
  t.notOk(events.includes('timeout'))
})

t.test('after its release nobody is given up', async (t) => {
  const { sink, events } = make(t, { inactivityMs: 20 })
  sink.write(Buffer.from('abc')).catch(() => undefined)
  sink.release()
  await new Promise((resolve) => setTimeout(resolve, 60))
  t.strictSame(events, ['start'])
})

/** Of which 1024 bytes may be sent at once, and as many each second. */
function paced(t: Test, options: Partial<SinkOptions> = {}) {
  const clock = new VirtualClock()
  const pace = new RateLimiter({ clock }).share(KIB)
  return { clock, pace, ...make(t, { pace, ...options }) }
}

t.test('a body goes out as fast as its pace allows', async (t) => {
  const { sink, written, clock, events } = paced(t)
  const sizes = drain(written, sink.write(Buffer.alloc(2500)))
  for (let second = 0; second < 3; second++) {
    while (events.length < second + 2) await turn()
    t.equal(events.length, second + 2)
    await clock.pass(1000)
  }
  t.strictSame(await sizes, [KIB, KIB, 452])
  t.strictSame(events, ['start', KIB, KIB, 452])
  t.equal(clock.timers, 0)
})

t.test(
  'the header waits for the first byte, so that there may still be another answer',
  async (t) => {
    const { sink, pace, clock, events } = paced(t)
    await pace.take(KIB, new AbortController().signal)
    const write = sink.write(Buffer.alloc(5))
    await turn()
    t.strictSame(events, [])
    const reason = new Error('canceled')
    pace.end(reason)
    await t.rejects(write, reason)
    t.strictSame(events, [])
    t.equal(clock.timers, 0)
  },
)

t.test('a client that goes while it is held back ends the write at once', async (t) => {
  const closed = new AbortController()
  const { sink, pace, clock } = paced(t, { closed: closed.signal })
  await pace.take(KIB, new AbortController().signal)
  const write = sink.write(Buffer.alloc(5))
  await turn()
  const reason = new Error('gone')
  closed.abort(reason)
  await t.rejects(write, reason)
  t.equal(clock.timers, 0)
})

t.test('time in which the body is held back is not the time of the client', async (t) => {
  const { sink, pace, clock, written, events } = paced(t, { inactivityMs: 20, minRate: 1000 })
  await pace.take(KIB, new AbortController().signal)
  const write = drain(written, sink.write(Buffer.alloc(5)))
  await new Promise((resolve) => setTimeout(resolve, 100))
  await clock.pass(1000)
  await write
  t.strictSame(events, ['start', 5])
})
