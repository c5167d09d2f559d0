import t from 'tap'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import type { ByteSource } from '../../../daemon/operations/operation.js'
import { writeRange } from '../../../daemon/operations/write.js'
import { content, imageFile, openImage, pattern } from '../backends/images.js'
import { AheadSource, KiB, PiecesSource, contextWith, covers, turn } from './peers.js'

const growing = (blockSize = 1) => new MemoryBackend(Buffer.alloc(0), { canGrow: true, blockSize })

t.test('any range is stored as it came, with one buffer or two', async (t) => {
  for (const blockSize of [1, 512, 4096, 65_536]) {
    for (const count of [1, 2]) {
      for (const [offset, size, piece] of [
        [0, 0, 1],
        [0, 1, 1],
        [0, 100_003, 1000],
        [1, 16 * KiB, 16 * KiB],
        [511, 513, 7],
        [16 * KiB, 16 * KiB, 5000],
        [16 * KiB - 1, 48 * KiB + 2, 100_000],
      ] as const) {
        for (const isSizeKnown of [true, false]) {
          const context = contextWith({ count })
          const backend = growing(blockSize)
          const body = pattern(size)
          const source = new PiecesSource(body, piece)
          const told = isSizeKnown ? size : undefined
          t.equal(await writeRange(backend, offset, told, source, context), size)
          const expected = Buffer.concat([Buffer.alloc(size === 0 ? 0 : offset), body])
          t.ok(backend.data.equals(expected), `${size} at ${offset}`)
          t.ok(covers(context, offset, size))
          t.equal(context.buffers.counts.lent, 0)
        }
      }
    }
  }
})

t.test('all but head and tail are whole blocks', async (t) => {
  for (const blockSize of [512, 4096]) {
    const backend = growing(blockSize)
    const written: [number, number][] = []
    const pwrite = backend.pwrite.bind(backend)
    backend.pwrite = (buffer, offset, signal) => {
      written.push([offset, buffer.length])
      return pwrite(buffer, offset, signal)
    }
    const source = new PiecesSource(pattern(100_000), 777)
    await writeRange(backend, 1000, 100_000, source, contextWith())
    t.ok(written.slice(1, -1).every(([start, size]) => (start | size) % blockSize === 0))
    t.equal(written[0]![0] + written[0]![1], 4096)
  }
})

t.test('bytes behind the size are left to the next request', async (t) => {
  const source = new PiecesSource(pattern(1000), 300)
  const backend = growing()
  t.equal(await writeRange(backend, 0, 400, source, contextWith()), 400)
  t.equal(source.position <= 600, true)
  t.ok(backend.data.equals(pattern(1000).subarray(0, 400)))
})

t.test('a body that ends early is stored as far as it came, then an error', async (t) => {
  for (const received of [0, 1, 16 * KiB, 50_000]) {
    const context = contextWith()
    const backend = growing()
    const source = new PiecesSource(pattern(received), 1000)
    await t.rejects(writeRange(backend, 7, 60_000, source, context), {
      code: 'ERR_SHORT_BODY',
      statusCode: 400,
      expected: 60_000,
      received,
    })
    t.ok(covers(context, 7, received))
    t.ok(backend.data.subarray(7).equals(pattern(received)))
    t.equal(context.buffers.counts.lent, 0)
  }
})

t.test('so is one whose peer is lost', async (t) => {
  const context = contextWith()
  const backend = growing()
  const source = new PiecesSource(pattern(20_000), 1000, new Error('reset'))
  await t.rejects(writeRange(backend, 0, 60_000, source, context), { message: 'reset' })
  t.ok(covers(context, 0, 20_000))
  t.equal(context.buffers.counts.lent, 0)
})

t.test('no byte behind the limit is written', async (t) => {
  const backend = growing()
  const tooLong = { code: 'ERR_RANGE_LIMIT', statusCode: 416 }
  for (const limit of [0, 1, 16 * KiB, 20_000]) {
    const context = { ...contextWith(), limit }
    const source = new PiecesSource(pattern(20_001), 3000)
    await t.rejects(writeRange(backend, 0, undefined, source, context), tooLong)
    t.equal(backend.data.length, limit)
  }
  const context = { ...contextWith(), limit: 9 }
  await t.rejects(writeRange(growing(), 0, 10, new PiecesSource(pattern(10), 5), context), tooLong)
  const exact = { ...contextWith(), limit: 20_000 }
  const source = new PiecesSource(pattern(20_000), 3000)
  t.equal(await writeRange(growing(), 0, undefined, source, exact), 20_000)
})

t.test('storage that fails ends the operation without waiting for the whole body', async (t) => {
  const backend = growing()
  backend.pwrite = () => Promise.reject(new Error('ENOSPC'))
  const source = new PiecesSource(pattern(200_000), 1000)
  const context = contextWith()
  await t.rejects(writeRange(backend, 0, 200_000, source, context), { message: 'ENOSPC' })
  t.ok(source.position < 40_000)
  t.same(context.progress, [])
  t.equal(context.buffers.counts.lent, 0)
})

t.test('aborted while the body stalls: nothing more is written', async (t) => {
  const context = contextWith()
  const backend = growing()
  const body = new PiecesSource(pattern(20_000), 1000)
  const source: ByteSource = {
    read: async (target) => {
      const size = await body.read(target)
      if (size > 0) return size
      context.abort.abort(new Error('cancelled'))
      throw new Error('the source was aborted')
    },
  }
  await t.rejects(writeRange(backend, 0, 60_000, source, context), { message: 'cancelled' })
  t.equal(backend.data.length, 16 * KiB, 'only what had been handed over before')
  t.equal(context.buffers.counts.lent, 0)
})

t.test('aborted during a write: buffers are held until the kernel is done', async (t) => {
  const context = contextWith()
  const backend = growing()
  let letGo: () => void = () => undefined
  backend.pwrite = () => new Promise((resolve) => (letGo = resolve))
  const writing = writeRange(backend, 0, 60_000, new PiecesSource(pattern(60_000), 60_000), context)
  for (let turns = 0; turns < 10; turns++) await turn()
  context.abort.abort(new Error('cancelled'))
  await turn()
  t.equal(context.buffers.counts.lent, 2)
  letGo()
  await t.rejects(writing, { message: 'cancelled' })
  t.same(context.progress, [[0, 16 * KiB]])
  t.equal(context.buffers.counts.lent, 0)
})

t.test('many bodies at a time share few buffers and none waits for ever', async (t) => {
  const { buffers, onProgress, signal } = contextWith({ count: 3, waitTimeoutMs: 20_000 })
  await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const backend = growing()
      const source = new PiecesSource(pattern(40_000, index), 40_000)
      await writeRange(backend, 0, 40_000, source, { buffers, onProgress, signal })
      t.ok(backend.data.equals(pattern(40_000, index)))
    }),
  )
  t.equal(buffers.counts.lent, 0)
})

t.test('a real file gets the body exactly', async (t) => {
  const directory = t.testdir({})
  for (const [offset, size] of [
    [0, 100_003],
    [1, 70_000],
    [4097, 8191],
  ] as const) {
    const path = await imageFile(directory, 0)
    const image = await openImage(t, path)
    await writeRange(image, offset, size, new PiecesSource(pattern(size), 999), contextWith())
    t.ok((await content(path)).equals(Buffer.concat([Buffer.alloc(offset), pattern(size)])))
  }
})

t.test('a source that reads ahead stores the same bytes', async (t) => {
  let hits = 0
  for (const blockSize of [1, 512, 4096]) {
    for (const [offset, size] of [
      [0, 1],
      [0, 100_003],
      [511, 200_000],
      [16 * KiB - 1, 48 * KiB + 2],
    ] as const) {
      const context = contextWith()
      const backend = growing(blockSize)
      const source = new AheadSource(pattern(size))
      const pwrite = backend.pwrite.bind(backend)
      backend.pwrite = async (buffer, position, signal) => {
        const end = buffer.byteOffset + buffer.length
        const overlaps = [...source.held].some(
          (held) => held.byteOffset < end && buffer.byteOffset < held.byteOffset + held.length,
        )
        if (overlaps && [...source.held].some((held) => held.buffer === buffer.buffer))
          throw new Error('written and filled at once')
        for (let turns = position % 3; turns > 0; turns--) await turn()
        await pwrite(buffer, position, signal)
      }
      t.equal(await writeRange(backend, offset, size, source, context), size)
      t.ok(backend.data.subarray(offset).equals(pattern(size)), `${size} at ${offset}`)
      t.ok(covers(context, offset, size))
      t.equal(context.buffers.counts.lent, 0)
      hits += source.hits
    }
  }
  t.ok(hits > 20)
})

t.test("however it ends, nothing is read ahead into a buffer that is others'", async (t) => {
  const size = 100_000
  for (const end of ['short', 'failed', 'aborted', 'full'] as const) {
    for (let after = 0; after < 6; after++) {
      const context = contextWith()
      const backend = growing()
      const failure = end === 'failed' ? new Error('gone') : undefined
      const body = end === 'aborted' || end === 'full' ? size : after * 17_000
      const source = new AheadSource(pattern(body), failure)
      const pwrite = backend.pwrite.bind(backend)
      let writes = 0
      backend.pwrite = async (buffer, offset, signal) => {
        if (writes === after && end === 'full') throw new Error('full')
        if (writes === after && end === 'aborted') context.abort.abort(new Error('aborted'))
        writes++
        await pwrite(buffer, offset, signal)
      }
      const release = context.buffers.release.bind(context.buffers)
      context.buffers.release = (buffer) => {
        if ([...source.held].some((held) => held.buffer === buffer.buffer))
          throw new Error('given back while it is filled')
        release(buffer)
      }
      await t.rejects(writeRange(backend, 0, size, source, context), { message: /^(?!given)/ })
      t.equal(context.buffers.counts.lent, 0)
      t.equal(source.held.size, 0)
    }
  }
})
