import t from 'tap'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import { zeroRange } from '../../../daemon/operations/zero.js'
import { imageFile, openImage, pattern, readAll } from '../backends/images.js'
import { MiB, contextWith, covers } from './peers.js'

const punch = { mayPunchHole: true }

t.test('only the range is zeroed, and told', async (t) => {
  const backend = new MemoryBackend(pattern(1000))
  const context = contextWith()
  await zeroRange(backend, 10, 980, punch, context)
  t.ok(backend.data.equals(pattern(1000).fill(0, 10, 990)))
  t.ok(covers(context, 10, 980))
  t.equal(context.buffers.counts.idle, 0, 'no buffer is needed')
})

t.test('size 0 asks nothing of the storage', async (t) => {
  const backend = new MemoryBackend(Buffer.alloc(0))
  await zeroRange(backend, 10, 0, punch, contextWith())
  t.equal(backend.data.length, 0)
})

/** A backend that only notes what it is asked. */
function noting() {
  const backend = new MemoryBackend(Buffer.alloc(0))
  const steps: [number, number][] = []
  backend.zero = async (offset, size) => {
    steps.push([offset, size])
  }
  return { backend, steps }
}

t.test('large ranges go in steps that end at multiples', async (t) => {
  const { backend, steps } = noting()
  const context = contextWith()
  await zeroRange(backend, 100, 300 * MiB, punch, context)
  t.same(steps, [
    [100, 128 * MiB - 100],
    [128 * MiB, 128 * MiB],
    [256 * MiB, 44 * MiB + 100],
  ])
  t.same(context.progress, steps)
})

t.test('cancelled midway: the step under way is the last', async (t) => {
  const { backend, steps } = noting()
  const context = contextWith()
  const zero = backend.zero.bind(backend)
  backend.zero = async (offset, size, options) => {
    await zero(offset, size, options)
    if (steps.length === 2) context.abort.abort(new Error('cancelled'))
  }
  const zeroing = zeroRange(backend, 0, 10 * 1024 * MiB, punch, context)
  await t.rejects(zeroing, { message: 'cancelled' })
  t.equal(steps.length, 2)
  t.ok(covers(context, 0, 256 * MiB))
})

t.test('aborted before: nothing is done', async (t) => {
  const { backend, steps } = noting()
  const context = contextWith()
  context.abort.abort(new Error('cancelled'))
  await t.rejects(zeroRange(backend, 0, 10, punch, context), { message: 'cancelled' })
  t.same(steps, [])
})

t.test('an error of the storage ends it', async (t) => {
  const backend = new MemoryBackend(Buffer.alloc(100))
  await t.rejects(zeroRange(backend, 50, 51, punch, contextWith()), { code: 'ERR_BEYOND_END' })
})

t.test('a real file of hundreds of MiB becomes a hole', async (t) => {
  const path = await imageFile(t.testdir({}), pattern(5000))
  const image = await openImage(t, path)
  await zeroRange(image, 4999, 200 * MiB, punch, contextWith())
  t.equal(await image.size(), 200 * MiB + 4999)
  await image.zero(0, 4999, punch)
  t.ok((await readAll(image)).subarray(0, 10_000).every((byte) => byte === 0))
})
