import t from 'tap'
import { randomBytes } from 'node:crypto'
import { Pump, readAll, type ByteSource } from '../../proxy/pump.js'

const KiB = 1024

/** Hands out the bytes, at most so many at a time. */
function source(bytes: Buffer, atOnce: number, error?: Error): ByteSource {
  let at = 0
  return {
    read: (target) => {
      if (at === bytes.length && error !== undefined) return Promise.reject(error)
      const copied = bytes.copy(target, 0, at, Math.min(bytes.length, at + atOnce))
      at += copied
      return Promise.resolve(copied)
    },
  }
}

function collector() {
  const pieces: Buffer[] = []
  let isBusy = false
  return {
    pieces,
    bytes: () => Buffer.concat(pieces),
    write: async (chunk: Buffer) => {
      if (isBusy) throw new Error('two writes at a time')
      isBusy = true
      await new Promise((resolve) => setImmediate(resolve))
      pieces.push(Buffer.from(chunk))
      isBusy = false
    },
  }
}

const whole = { size: undefined, limit: Infinity, beyond: () => new Error('beyond') }

t.test('everything arrives in order, one write at a time', async (t) => {
  const pump = new Pump()
  for (const size of [0, 1, 256 * KiB, 256 * KiB + 1, 3_000_000]) {
    const bytes = randomBytes(size)
    for (const atOnce of [16 * KiB, 1_000_000]) {
      const sink = collector()
      let moved = 0
      await pump.run(source(bytes, atOnce), sink, { ...whole, onMoved: (n) => void (moved += n) })
      t.ok(sink.bytes().equals(bytes), `${size} by ${atOnce}`)
      t.equal(moved, size)
    }
  }
})

t.test('what came before a failure is passed on', async (t) => {
  const sink = collector()
  const broken = source(Buffer.from('start'), 10, new Error('source'))
  await t.rejects(new Pump().run(broken, sink, { ...whole, onMoved: () => undefined }), {
    message: 'source',
  })
  t.equal(sink.bytes().toString(), 'start')
})

t.test('a failure of the sink ends it', async (t) => {
  const sink = { write: () => Promise.reject(new Error('sink')) }
  const endless: ByteSource = { read: (target) => Promise.resolve(target.length) }
  await t.rejects(new Pump().run(endless, sink, { ...whole, onMoved: () => undefined }), {
    message: 'sink',
  })
})

t.test('the limit is passed on, and nothing behind it', async (t) => {
  for (const limit of [0, 4, 5]) {
    const sink = collector()
    const run = new Pump().run(source(Buffer.from('123456'), 10), sink, {
      ...whole,
      limit,
      onMoved: () => undefined,
    })
    await t.rejects(run, { message: 'beyond' })
    t.equal(sink.bytes().toString(), '123456'.slice(0, limit))
  }
  const sink = collector()
  const options = { ...whole, limit: 6, onMoved: () => undefined }
  await new Pump().run(source(Buffer.from('123456'), 10), sink, options)
  t.equal(sink.bytes().length, 6)
})

t.test('a small answer is read whole, a large one is none', async (t) => {
  t.equal((await readAll(source(Buffer.from('small'), 2), 5)).toString(), 'small')
  await t.rejects(readAll(source(Buffer.from('larger'), 2), 5), { code: 'ERR_DAEMON_ANSWER' })
})
