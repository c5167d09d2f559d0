import t from 'tap'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import { readRange } from '../../../daemon/operations/read.js'
import { imageFile, openImage, pattern } from '../backends/images.js'
import { CollectingSink, KiB, contextWith, covers, turn } from './peers.js'

const IMAGE = pattern(100_003)

t.test('any range arrives as it is, with one buffer or two', async (t) => {
  for (const blockSize of [1, 512, 4096, 65_536]) {
    for (const count of [1, 2, 4]) {
      for (const [offset, size] of [
        [0, 0],
        [0, 1],
        [0, 100_003],
        [100_002, 1],
        [1, 16 * KiB],
        [511, 513],
        [16 * KiB, 16 * KiB],
        [16 * KiB - 1, 16 * KiB + 2],
        [12_345, 67_890],
      ] as const) {
        const context = contextWith({ count })
        const sink = new CollectingSink()
        await readRange(new MemoryBackend(IMAGE, { blockSize }), offset, size, sink, context)
        const name = `${size} at ${offset}, blocks of ${blockSize}, ${count} buffers`
        t.ok(sink.bytes.equals(IMAGE.subarray(offset, offset + size)), name)
        t.ok(covers(context, offset, size), name)
        t.equal(context.buffers.counts.lent, 0)
      }
    }
  }
})

t.test('whole blocks are asked of the backend', async (t) => {
  const backend = new MemoryBackend(IMAGE, { blockSize: 512 })
  const asked: [number, number][] = []
  const pread = backend.pread.bind(backend)
  backend.pread = (buffer, offset) => {
    asked.push([offset, buffer.length])
    return pread(buffer, offset)
  }
  await readRange(backend, 700, 50_000, new CollectingSink(), contextWith())
  t.ok(asked.every(([offset, size]) => offset % 512 === 0 && size % 512 === 0))
  t.equal(asked[0]![0], 512)
})

t.test('the next chunk is read while one is being sent', async (t) => {
  const backend = new MemoryBackend(IMAGE)
  let reads = 0
  const pread = backend.pread.bind(backend)
  backend.pread = (buffer, offset) => (reads++, pread(buffer, offset))
  const sink = new CollectingSink()
  const readsAtWrite: number[] = []
  sink.before = async () => {
    readsAtWrite.push(reads)
    await turn()
  }
  await readRange(backend, 0, 64 * KiB, sink, contextWith())
  t.same(readsAtWrite, [2, 3, 4, 4])
})

t.test(
  'more are read ahead where the backend asks for it, as far as there is memory',
  async (t) => {
    for (const [count, first] of [
      [1, 1],
      [3, 3],
      [8, 4],
    ] as const) {
      const backend = new MemoryBackend(IMAGE)
      backend.readsAhead = 3
      let reads = 0
      const pread = backend.pread.bind(backend)
      backend.pread = (buffer, offset) => (reads++, pread(buffer, offset))
      const sink = new CollectingSink()
      const readsAtWrite: number[] = []
      sink.before = async () => {
        readsAtWrite.push(reads)
        await turn()
      }
      const context = contextWith({ count })
      await readRange(backend, 0, 96 * KiB, sink, context)
      t.same(
        readsAtWrite,
        [0, 1, 2, 3, 4, 5].map((sent) => Math.min(first + sent, 6)),
      )
      t.ok(sink.bytes.equals(IMAGE.subarray(0, 96 * KiB)))
      t.equal(context.buffers.counts.lent, 0)
    }
  },
)

t.test('an image that ends early is an error, before anything is sent if it can', async (t) => {
  const sink = new CollectingSink()
  const truncated = { code: 'ERR_IMAGE_TRUNCATED', statusCode: 500 }
  const backend = new MemoryBackend(IMAGE)
  await t.rejects(readRange(backend, 100_000, 4, sink, contextWith()), truncated)
  t.equal(sink.chunks.length, 0)
  const context = contextWith()
  await t.rejects(readRange(backend, 0, 100_004, sink, context), truncated)
  t.ok(sink.bytes.length < 100_003, 'never padded')
  t.equal(context.buffers.counts.lent, 0)
})

t.test('a failing first read reaches the caller before the sink', async (t) => {
  const backend = new MemoryBackend(IMAGE)
  backend.pread = () => Promise.reject(new Error('EIO'))
  const sink = new CollectingSink()
  await t.rejects(readRange(backend, 0, 10, sink, contextWith()), { message: 'EIO' })
  t.equal(sink.chunks.length, 0)
})

/** A backend whose reads wait to be let go; tells whether a released buffer was in use. */
function heldBackend() {
  const backend = new MemoryBackend(IMAGE)
  const held: (() => void)[] = []
  const pread = backend.pread.bind(backend)
  backend.pread = async (buffer, offset) => {
    await new Promise<void>((resolve) => held.push(resolve))
    return pread(buffer, offset)
  }
  const letGo = async () => {
    held.shift()?.()
    await turn()
    await turn()
  }
  return { backend, held, letGo }
}

t.test('aborted during a read: buffers are held until the kernel is done', async (t) => {
  const { backend, held, letGo } = heldBackend()
  const context = contextWith()
  const reading = readRange(backend, 0, 64 * KiB, new CollectingSink(), context)
  await turn()
  t.equal(held.length, 1)
  context.abort.abort(new Error('cancelled'))
  await turn()
  t.equal(context.buffers.counts.lent, 2)
  const rejected = t.rejects(reading, { message: 'cancelled' })
  await letGo()
  await rejected
  t.equal(context.buffers.counts.lent, 0)
})

t.test('a sink that fails while a read is in flight: the same', async (t) => {
  const { backend, held, letGo } = heldBackend()
  const context = contextWith()
  const sink = new CollectingSink()
  sink.before = () => Promise.reject(new Error('peer gone'))
  const reading = readRange(backend, 0, 64 * KiB, sink, context)
  let isSettled = false
  reading.catch(() => undefined).then(() => (isSettled = true))
  await turn()
  await letGo()
  t.equal(held.length, 1, 'the second read is in flight')
  t.equal(isSettled, false)
  t.equal(context.buffers.counts.lent, 2)
  await letGo()
  await t.rejects(reading, { message: 'peer gone' })
  t.equal(context.buffers.counts.lent, 0)
})

t.test('a read that fails while the sink is busy is no unhandled rejection', async (t) => {
  const backend = new MemoryBackend(IMAGE)
  let reads = 0
  const pread = backend.pread.bind(backend)
  backend.pread = (buffer, offset) =>
    ++reads === 2 ? Promise.reject(new Error('EIO')) : pread(buffer, offset)
  const sink = new CollectingSink()
  sink.before = async () => {
    for (let turns = 0; turns < 5; turns++) await turn()
  }
  const context = contextWith()
  await t.rejects(readRange(backend, 0, 64 * KiB, sink, context), { message: 'EIO' })
  t.equal(sink.bytes.length, 16 * KiB)
  t.same(context.progress, [[0, 16 * KiB]])
})

t.test('cancelled midway: nothing more is sent', async (t) => {
  const context = contextWith()
  const sink = new CollectingSink()
  sink.before = async () => {
    if (sink.chunks.length === 2) context.abort.abort(new Error('cancelled'))
    await turn()
  }
  const reading = readRange(new MemoryBackend(IMAGE), 0, 100_000, sink, context)
  await t.rejects(reading, { message: 'cancelled' })
  t.equal(sink.chunks.length, 3, 'the one that was on its way')
  t.equal(context.buffers.counts.lent, 0)
})

t.test('a real file arrives whole at any offset', async (t) => {
  const image = await openImage(t, await imageFile(t.testdir({}), IMAGE))
  for (const [offset, size] of [
    [0, 100_003],
    [1, 100_002],
    [4097, 50_000],
    [100_002, 1],
  ] as const) {
    const sink = new CollectingSink()
    await readRange(image, offset, size, sink, contextWith())
    t.ok(sink.bytes.equals(IMAGE.subarray(offset, offset + size)))
  }
})
