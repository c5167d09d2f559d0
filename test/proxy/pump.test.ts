import t from 'tap'
import { randomBytes } from 'node:crypto'
import { BufferPool } from '../../core/buffer-pool.js'
import { KiB } from '../../core/units.js'
import { BodyMemory } from '../../proxy/body-memory.js'
import { pump, readAll, type ByteSource, type PumpOptions } from '../../proxy/pump.js'

const PIECE = 256 * KiB
const { signal } = new AbortController()
const poolOf = (count: number) =>
  new BufferPool({ bufferSize: PIECE, maxBytes: count * PIECE, waitTimeoutMs: 10_000 })

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

const whole = {
  size: undefined,
  limit: Infinity,
  beyond: () => new Error('beyond'),
  onMoved: () => undefined,
}

/** With memory for the body, which is given back. */
async function run(
  from: ByteSource,
  sink: { write(chunk: Buffer): Promise<void> },
  options: Partial<PumpOptions> = {},
  pool = poolOf(2),
): Promise<void> {
  const memory = BodyMemory.ofImage(pool, options.size)
  await memory.take(signal)
  try {
    await pump(from, sink, { ...whole, ...options, memory })
  } finally {
    memory.release()
  }
}

t.test('everything arrives in order, one write at a time, with one piece or two', async (t) => {
  for (const pool of [poolOf(1), poolOf(2)]) {
    for (const size of [0, 1, 64 * KiB, PIECE, PIECE + 1, 3_000_000]) {
      const bytes = randomBytes(size)
      for (const atOnce of [16 * KiB, 1_000_000]) {
        for (const told of [undefined, size]) {
          const sink = collector()
          let moved = 0
          const onMoved = (n: number) => void (moved += n)
          await run(source(bytes, atOnce), sink, { size: told, onMoved }, pool)
          t.ok(sink.bytes().equals(bytes), `${size} by ${atOnce}`)
          t.equal(moved, size)
        }
      }
    }
    t.equal(pool.counts.lent, 0)
  }
})

t.test('the next piece is filled while one goes out, if there is memory for it', async (t) => {
  for (const [count, expected] of [
    [1, ['read', 'write', 'written', 'read']],
    [2, ['read', 'write', 'read', 'written']],
  ] as const) {
    const events: string[] = []
    let left = 2
    const from: ByteSource = {
      read: (target) => {
        events.push('read')
        return Promise.resolve(left-- > 0 ? target.length : 0)
      },
    }
    const sink = {
      write: async () => {
        events.push('write')
        await new Promise((resolve) => setImmediate(resolve))
        events.push('written')
      },
    }
    await run(from, sink, {}, poolOf(count))
    t.same(events.slice(0, 4), expected)
  }
})

t.test('a second piece is taken when there is one, and not for the end of a body', async (t) => {
  const pool = poolOf(2)
  const taken = await pool.acquire(signal)
  const lent: number[] = []
  let reads = 0
  const from: ByteSource = {
    read: (target) => {
      lent.push(pool.counts.lent)
      if (++reads === 2) pool.release(taken)
      return Promise.resolve(reads < 4 ? target.length : 0)
    },
  }
  await run(from, collector(), {}, pool)
  t.same(lent, [2, 2, 2, 2])
  const seen: number[] = []
  const watched = source(Buffer.alloc(PIECE), PIECE)
  const one: ByteSource = {
    read: (target) => {
      seen.push(pool.counts.lent)
      return watched.read(target)
    },
  }
  await run(one, collector(), { size: PIECE }, pool)
  t.same(seen, [1, 1])
})

t.test('a second piece goes to who waits for a first, and never one in use', async (t) => {
  // Of a body that lingers, and may fit into a part of the first, or is of unknown size.
  for (const size of [undefined, PIECE - 1, 8 * PIECE]) {
    const pool = poolOf(2)
    const used = new Set<ArrayBufferLike>()
    const lent: number[] = []
    let waiter: Promise<Buffer> | undefined
    let isServed = false
    let left = size ?? 8 * PIECE
    const step = size === PIECE - 1 ? 64 * KiB : PIECE
    const from: ByteSource = {
      read: async (target) => {
        t.notOk(used.has(target.buffer), 'nothing is read into what goes out')
        used.add(target.buffer)
        lent.push(pool.counts.lent)
        if (lent.length === 3) {
          waiter = pool.acquire(signal).then((buffer) => {
            t.notOk(used.has(buffer.buffer), 'nobody uses it')
            isServed = true
            return buffer
          })
        }
        await new Promise((resolve) => setImmediate(resolve))
        used.delete(target.buffer)
        const filled = Math.min(step, left, target.length)
        left -= filled
        return filled
      },
    }
    const sink = {
      write: async (chunk: Buffer) => {
        used.add(chunk.buffer)
        await new Promise((resolve) => setTimeout(resolve, 1))
        used.delete(chunk.buffer)
      },
    }
    const options = size === undefined ? {} : { size }
    const memory = BodyMemory.ofImage(pool, size)
    await memory.take(signal)
    await pump(from, sink, { ...whole, ...options, memory })
    t.ok(isServed, 'while the body goes on')
    t.equal(left, 0)
    t.equal(pool.counts.lent, 2, 'one each')
    memory.release()
    if (waiter !== undefined) pool.release(await waiter)
    t.same(pool.counts, { lent: 0, idle: 2, waiting: 0 })
  }
})

t.test('small bodies take nothing from the pool', async (t) => {
  const pool = poolOf(1)
  const taken = await pool.acquire(signal)
  const sink = collector()
  await run(source(Buffer.alloc(64 * KiB), PIECE), sink, { size: 64 * KiB }, pool)
  t.equal(sink.bytes().length, 64 * KiB)
  const memory = BodyMemory.ofText()
  await memory.take(signal)
  await pump(source(Buffer.alloc(3 * PIECE), PIECE), sink, { ...whole, memory })
  t.equal(sink.bytes().length, 64 * KiB + 3 * PIECE)
  t.ok(sink.pieces.every(({ length }) => length <= 64 * KiB))
  pool.release(taken)
})

t.test('memory is given back once, and nobody waits for it who holds some', async (t) => {
  const pool = poolOf(2)
  const memory = BodyMemory.ofImage(pool, undefined)
  await memory.take(signal)
  t.ok(memory.second())
  t.equal(pool.counts.lent, 2)
  t.notOk(memory.yields(memory.first()), 'nobody waits')
  const abort = new AbortController()
  const waiting = pool.acquire(abort.signal)
  t.throws(() => memory.yields(Buffer.alloc(1)), /not taken/)
  abort.abort(new Error('left'))
  await t.rejects(waiting, { message: 'left' })
  await t.rejects(memory.take(signal), /while holding one/)
  memory.release()
  memory.release()
  t.equal(pool.counts.lent, 0)
  t.throws(() => memory.first(), /no buffer was taken/)
})

t.test('what came before a failure is passed on', async (t) => {
  const sink = collector()
  const broken = source(Buffer.from('start'), 10, new Error('source'))
  await t.rejects(run(broken, sink), { message: 'source' })
  t.equal(sink.bytes().toString(), 'start')
})

t.test('a failure of the sink ends it', async (t) => {
  const sink = { write: () => Promise.reject(new Error('sink')) }
  const endless: ByteSource = { read: (target) => Promise.resolve(target.length) }
  for (const count of [1, 2]) {
    await t.rejects(run(endless, sink, {}, poolOf(count)), { message: 'sink' })
  }
})

t.test('the limit is passed on, and nothing behind it', async (t) => {
  for (const limit of [0, 4, 5]) {
    const sink = collector()
    await t.rejects(run(source(Buffer.from('123456'), 10), sink, { limit }), { message: 'beyond' })
    t.equal(sink.bytes().toString(), '123456'.slice(0, limit))
  }
  const sink = collector()
  await run(source(Buffer.from('123456'), 4), sink, { limit: 6 })
  t.equal(sink.bytes().length, 6)
})

t.test('a small answer is read whole, a large one is none', async (t) => {
  t.equal((await readAll(source(Buffer.from('small'), 2), 5)).toString(), 'small')
  await t.rejects(readAll(source(Buffer.from('larger'), 2), 5), { code: 'ERR_DAEMON_ANSWER' })
})
