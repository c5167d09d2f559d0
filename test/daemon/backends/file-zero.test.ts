import { stat, truncate } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { mountedFileSystem, mountedTmpfs } from '../../support/loop-device.js'
import { collect, content, difference, imageFile, openImage, pattern, readAll } from './images.js'
import { inEachPlace, loopSkip } from './places.js'

const KiB = 1024
const MiB = 1024 * KiB

inEachPlace(zeroing)

async function zeroing(t: Test, directory: string) {
  const allocated = async (path: string) => (await stat(path)).blocks * 512

  await t.test('zeroes any range and grows exactly', async (t) => {
    const ranges = [
      [0, 1],
      [1, 1],
      [511, 2],
      [0, 4096],
      [100, 8192],
      [4095, 4098],
      [8192, 8192],
      [10_000, 10_007],
      [20_006, 1],
      [20_000, 100],
      [20_007, 4096],
      [30_000, 5],
      [0, 40_000],
      [0, 3 * MiB + 5],
    ] as const
    for (const mayPunchHole of [true, false]) {
      for (const [offset, size] of ranges) {
        const path = await imageFile(directory, pattern(20_007))
        const image = await openImage(t, path)
        await image.zero(offset, size, { mayPunchHole })
        const expected = Buffer.alloc(Math.max(20_007, offset + size))
        pattern(20_007).copy(expected)
        expected.fill(0, offset, offset + size)
        const name = `${size} at ${offset}, ${mayPunchHole ? 'sparse' : 'preallocated'}`
        t.equal(difference(await readAll(image), expected), undefined, name)
        t.equal(difference(await content(path), expected), undefined, name)
        await image.close()
      }
    }
  })

  await t.test('punches holes when it may and allocates when not', async (t) => {
    const size = 64 * KiB
    const sparse = await imageFile(directory, pattern(4 * size))
    const image = await openImage(t, sparse)
    await image.flush()
    const before = await allocated(sparse)
    await image.zero(size, size, { mayPunchHole: true })
    t.equal(await allocated(sparse), before - size)
    await image.zero(size, size, { mayPunchHole: false })
    t.equal(await allocated(sparse), before)
    t.ok((await readAll(image)).subarray(size, 2 * size).every((byte) => byte === 0))
  })

  await t.test('an empty file becomes a hole or allocated, as asked', async (t) => {
    const hole = await imageFile(directory, 0)
    await (await openImage(t, hole)).zero(0, 64 * KiB, { mayPunchHole: true })
    t.same([(await stat(hole)).size, await allocated(hole)], [64 * KiB, 0])
    const full = await imageFile(directory, 0)
    await (await openImage(t, full)).zero(0, 64 * KiB, { mayPunchHole: false })
    t.equal((await stat(full)).size, 64 * KiB)
    t.ok((await allocated(full)) >= 64 * KiB)
  })

  await t.test('the gap before a zeroed range stays a hole', async (t) => {
    for (const mayPunchHole of [true, false]) {
      const path = await imageFile(directory, 0)
      await (await openImage(t, path)).zero(1 * MiB, 64 * KiB, { mayPunchHole })
      t.equal((await stat(path)).size, 1 * MiB + 64 * KiB)
      t.ok((await allocated(path)) < 128 * KiB)
    }
  })

  await t.test('what the storage refuses is written, and not asked again', async (t) => {
    const images = new ImageStates()
    for (const mayPunchHole of [true, false]) {
      const path = await imageFile(directory, pattern(3 * MiB))
      const image = await openImage(t, path, { images })
      refuseAll(images)
      await image.zero(1000, 2 * MiB, { mayPunchHole })
      await image.zero(3 * MiB - 10, 1 * MiB, { mayPunchHole })
      const expected = Buffer.alloc(4 * MiB - 10)
      pattern(3 * MiB).copy(expected)
      expected.fill(0, 1000, 1000 + 2 * MiB).fill(0, 3 * MiB - 10)
      t.equal(difference(await readAll(image), expected), undefined)
      await image.close()
    }
  })

  await t.test('extents are the holes and data of the file', async (t) => {
    const path = await imageFile(directory, 8 * MiB)
    const image = await openImage(t, path)
    await image.pwrite(pattern(64 * KiB), 1 * MiB)
    await image.pwrite(pattern(64 * KiB), 1 * MiB + 64 * KiB)
    await image.pwrite(pattern(64 * KiB), 4 * MiB)
    t.same(await collect(image.extents(0, 8 * MiB, 'zero')), [
      { start: 0, length: 1 * MiB, zero: true, hole: false },
      { start: 1 * MiB, length: 128 * KiB, zero: false, hole: false },
      { start: 1 * MiB + 128 * KiB, length: 3 * MiB - 128 * KiB, zero: true, hole: false },
      { start: 4 * MiB, length: 64 * KiB, zero: false, hole: false },
      { start: 4 * MiB + 64 * KiB, length: 4 * MiB - 64 * KiB, zero: true, hole: false },
    ])
    t.same(await collect(image.extents(1 * MiB + 5, 1 * MiB + 10, 'zero')), [
      { start: 1 * MiB + 5, length: 5, zero: false, hole: false },
    ])
  })

  await t.test('a file of thousands of fragments is listed completely', async (t) => {
    const path = await imageFile(directory, 24 * MiB)
    const image = await openImage(t, path)
    const count = (24 * MiB) / (8 * KiB)
    for (let index = 0; index < count; index++) await image.pwrite(pattern(4096), index * 8 * KiB)
    const extents = await collect(image.extents(0, 24 * MiB, 'zero'))
    t.equal(extents.length, 2 * count)
    t.ok(
      extents.every(
        ({ start, length, zero }, index) =>
          start === index * 4096 && length === 4096 && zero === (index % 2 === 1),
      ),
    )
    t.ok(
      await image
        .close()
        .then(() => truncate(path, 0))
        .then(() => true),
    )
  })
}

/** As if the storage had answered EOPNOTSUPP to each call before. */
function refuseAll(images: ImageStates) {
  const acquire = images.acquire.bind(images)
  images.acquire = (identity) => {
    const state = acquire(identity)
    for (const name of ['punch-hole', 'zero-range', 'allocate']) state.refused.add(name)
    return state
  }
}

t.test('a full file system is told, what was there stays', { skip: loopSkip }, async (t) => {
  const full = [
    await mountedFileSystem(t, { size: 8 * MiB }),
    await mountedTmpfs(t, { size: 4 * MiB }),
  ]
  for (const directory of full) {
    const bytes = pattern(10_000)
    const path = await imageFile(directory, bytes)
    const image = await openImage(t, path)
    const writing = async () => {
      for (let offset = 1 * MiB + 1; ; offset += MiB) await image.pwrite(pattern(MiB), offset)
    }
    await t.rejects(writing(), { code: 'ERR_STORAGE_FULL', statusCode: 507 })
    const zeroing = image.zero(100 * MiB, 64 * MiB, { mayPunchHole: false })
    await t.rejects(zeroing, { code: 'ERR_STORAGE_FULL', statusCode: 507 })
    const start = Buffer.alloc(bytes.length)
    await image.pread(start, 0)
    t.equal(difference(start, bytes), undefined)
    await image.zero(0, 300 * MiB, { mayPunchHole: true })
    t.equal(await image.size(), 300 * MiB, 'a hole needs no space')
    await image.close()
  }
})
