import { stat, truncate, writeFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { mountedFileSystem, mountedTmpfs, withoutLoopDevices } from '../../support/loop-device.js'
import {
  collect,
  content,
  difference,
  imageFile,
  openImage,
  pattern,
  readAll,
  tmpfsDirectory,
  withoutTmpfs,
} from './images.js'

const KiB = 1024
const MiB = 1024 * KiB

const loopSkip = await withoutLoopDevices()
const places: { name: string; skip: string | false; directory: (t: Test) => Promise<string> }[] = [
  { name: 'checkout', skip: false, directory: async (t) => t.testdir({}) },
  { name: 'tmpfs', skip: withoutTmpfs(), directory: tmpfsDirectory },
  {
    name: 'ext4 with 4096-byte sectors',
    skip: loopSkip,
    directory: (t) => mountedFileSystem(t, { size: 256 * MiB, sectorSize: 4096 }),
  },
  {
    name: 'ext4 with 512-byte sectors and 1 KiB blocks',
    skip: loopSkip,
    directory: (t) => mountedFileSystem(t, { size: 128 * MiB }),
  },
]

for (const place of places) {
  t.test(place.name, { skip: place.skip }, async (t) => {
    const directory = await place.directory(t)
    await edges(t, directory)
    await growth(t, directory)
    await zeroing(t, directory)
    await sharing(t, directory)
  })
}

async function edges(t: Test, directory: string) {
  const lengths = [1, 2, 511, 512, 513, 4095, 4096, 4097, 10_000]

  await t.test('reads any range, short only at the end', async (t) => {
    const bytes = pattern(20_003)
    const image = await openImage(t, await imageFile(directory, bytes))
    t.equal(await image.size(), bytes.length)
    for (const offset of [0, 1, 511, 512, 4096, 8191, 20_002, 20_003, 30_000]) {
      for (const length of lengths) {
        const buffer = Buffer.alloc(length)
        const got = await image.pread(buffer, offset)
        t.equal(
          difference(buffer.subarray(0, got), bytes.subarray(offset, offset + length)),
          undefined,
        )
      }
    }
  })

  await t.test('writes any range inside and changes nothing else', async (t) => {
    const expected = pattern(40_007)
    const path = await imageFile(directory, expected)
    const image = await openImage(t, path)
    for (const offset of [0, 1, 511, 512, 4095, 4096, 12_289]) {
      for (const length of lengths) {
        const bytes = pattern(length, offset + length)
        bytes.copy(expected, offset)
        await image.pwrite(bytes, offset)
      }
    }
    const last = Buffer.from('!')
    last.copy(expected, 40_006)
    await image.pwrite(last, 40_006)
    t.equal(difference(await readAll(image), expected), undefined)
    t.equal(difference(await content(path), expected), undefined, 'buffered readers see the same')
  })

  await t.test('size 0 does nothing', async (t) => {
    const path = await imageFile(directory, pattern(100))
    const image = await openImage(t, path)
    await image.pwrite(Buffer.alloc(0), 5000)
    await image.zero(5000, 0, { mayPunchHole: true })
    t.equal(await image.pread(Buffer.alloc(0), 0), 0)
    t.same(await collect(image.extents(50, 50, 'zero')), [])
    t.equal(await image.size(), 100)
  })

  await t.test('an aborted signal writes nothing', async (t) => {
    const path = await imageFile(directory, pattern(8192))
    const image = await openImage(t, path)
    const signal = AbortSignal.abort(new Error('cancelled'))
    await t.rejects(image.pwrite(Buffer.alloc(8192), 0, signal), { message: 'cancelled' })
    await t.rejects(image.zero(0, 8192, { mayPunchHole: true, signal }), { message: 'cancelled' })
    t.equal(difference(await content(path), pattern(8192)), undefined)
  })

  await t.test('a read-only context does not write', async (t) => {
    const path = await imageFile(directory, pattern(100))
    const image = await openImage(t, path, { writable: false })
    await t.rejects(image.pwrite(Buffer.from('x'), 0), { code: 'ERR_STORAGE_READ_ONLY' })
    await t.rejects(image.zero(0, 1, { mayPunchHole: false }), { code: 'ERR_STORAGE_READ_ONLY' })
    t.equal(difference(await readAll(image), pattern(100)), undefined)
  })

  await t.test('there are no dirty extents', async (t) => {
    const image = await openImage(t, await imageFile(directory, 4096))
    await t.rejects(collect(image.extents(0, 4096, 'dirty')), {
      code: 'ERR_DIRTY_EXTENTS_UNAVAILABLE',
    })
  })

  await t.test('closing twice is fine', async (t) => {
    const image = await openImage(t, await imageFile(directory, 4096))
    await image.close()
    await image.close()
    await t.rejects(image.pread(Buffer.alloc(1), 0), { code: 'ERR_STORAGE' })
  })

  await t.test('closing waits for calls in flight', async (t) => {
    const path = await imageFile(directory, 4 * MiB)
    const image = await openImage(t, path)
    const writing = image.pwrite(pattern(4 * MiB - 1), 1)
    await image.close()
    t.equal(difference((await content(path)).subarray(1), pattern(4 * MiB - 1)), undefined)
    await writing
  })
}

async function growth(t: Test, directory: string) {
  await t.test('grows exactly to the last byte written', async (t) => {
    const cases = [
      { size: 1000, offset: 990, length: 20 },
      { size: 0, offset: 9000, length: 10 },
      { size: 0, offset: 0, length: 1 },
      { size: 0, offset: 0, length: 4096 },
      { size: 0, offset: 0, length: 10_001 },
      { size: 1000, offset: 1000, length: 1 },
      { size: 1000, offset: 5000, length: 7000 },
      { size: 5000, offset: 100, length: 4901 },
      { size: 4096, offset: 4096, length: 100 },
      { size: 600, offset: 900, length: 1148 },
      { size: 100, offset: 3 * MiB + 17, length: 2 * MiB + 1 },
    ]
    for (const { size, offset, length } of cases) {
      const path = await imageFile(directory, pattern(size))
      const image = await openImage(t, path)
      const bytes = pattern(length, 5)
      await image.pwrite(bytes, offset)
      const expected = Buffer.alloc(Math.max(size, offset + length))
      pattern(size).copy(expected)
      bytes.copy(expected, offset)
      const name = `${length} bytes at ${offset} of ${size}`
      t.equal(difference(await readAll(image), expected), undefined, name)
      t.equal((await stat(path)).size, expected.length, name)
      await image.flush()
      t.equal(difference(await content(path), expected), undefined, name)
      await image.close()
    }
  })

  await t.test('an image written in odd pieces from its start is what was sent', async (t) => {
    const expected = pattern(200_001)
    const path = await imageFile(directory, 0)
    const image = await openImage(t, path)
    for (let offset = 0, piece = 1; offset < expected.length; piece = (piece * 3) % 9001) {
      const bytes = expected.subarray(offset, offset + piece)
      await image.pwrite(bytes, offset)
      offset += bytes.length
      if (offset % 5 === 0) t.equal(await image.size(), offset)
    }
    t.equal(difference(await readAll(image), expected), undefined)
    t.equal(difference(await content(path), expected), undefined)
  })

  await t.test('writers and zeroers that race to extend lose nothing', async (t) => {
    const images = new ImageStates()
    for (let round = 0; round < 25; round++) {
      const path = await imageFile(directory, pattern(round * 37))
      const a = await openImage(t, path, { images })
      const b = await openImage(t, path, { images })
      const [piece, end] = [1111, 16 * 1111]
      const expected = Buffer.alloc(end)
      pattern(round * 37).copy(expected)
      const work = []
      for (let index = 0; index < 16; index++) {
        const image = index % 2 === 0 ? a : b
        const offset = index * piece
        if ((index + round) % 3 === 0) {
          expected.fill(0, offset, offset + piece)
          work.push(image.zero(offset, piece, { mayPunchHole: round % 2 === 0 }))
        } else {
          const bytes = pattern(piece, index)
          bytes.copy(expected, offset)
          work.push(image.pwrite(bytes, offset))
        }
      }
      await Promise.all(work)
      t.equal(difference(await readAll(a), expected), undefined, `round ${round}`)
      t.equal(difference(await content(path), expected), undefined, `round ${round}, buffered`)
      await a.close()
      await b.close()
    }
  })
}

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

async function sharing(t: Test, directory: string) {
  await t.test('two contexts in one block lose no update', async (t) => {
    const images = new ImageStates()
    const path = await imageFile(directory, 4096)
    const contexts = await Promise.all([1, 2, 3, 4].map(() => openImage(t, path, { images })))
    const expected = Buffer.alloc(4096)
    for (let round = 0; round < 200; round++) {
      await Promise.all(
        contexts.map((image, index) => {
          const offset = index * 128 + (round % 100)
          const bytes = pattern(28, round * 4 + index)
          bytes.copy(expected, offset)
          return image.pwrite(bytes, offset)
        }),
      )
      const found = await readAll(contexts[0]!)
      if (!found.equals(expected)) t.fail(`round ${round}: ${difference(found, expected)}`)
    }
    t.equal(difference(await content(path), expected), undefined)
  })

  await t.test('a tail beside whole blocks of another writer loses none', async (t) => {
    const images = new ImageStates()
    for (let round = 0; round < 100; round++) {
      const path = await imageFile(directory, pattern(700, 9))
      const [a, b] = [await openImage(t, path, { images }), await openImage(t, path, { images })]
      const expected = Buffer.alloc(9000)
      pattern(700, 9).copy(expected)
      const [tail, blocks] = [pattern(300, round), pattern(8300, round + 1)]
      tail.copy(expected, 400)
      blocks.copy(expected, 700)
      await Promise.all([a.pwrite(tail, 400), b.pwrite(blocks, 700)].map((done) => done))
      tail.copy(expected, 400)
      const found = await readAll(a)
      if (!found.equals(expected)) t.fail(`round ${round}: ${difference(found, expected)}`)
      await a.close()
      await b.close()
    }
  })

  await t.test('the entity tag changes with each write and is absent during one', async (t) => {
    const images = new ImageStates()
    const path = await imageFile(directory, pattern(8192))
    const reader = await openImage(t, path, { images, writable: false })
    const writer = await openImage(t, path, { images })
    const first = await reader.etag()
    t.match(first, /^[\w-]{20,}$/)
    t.equal(await reader.etag(), first)
    const writing = writer.pwrite(pattern(8192), 0)
    t.equal(await reader.etag(), undefined)
    await writing
    const second = await reader.etag()
    t.type(second, 'string')
    t.not(second, first)
    await writer.zero(0, 1, { mayPunchHole: false })
    t.not(await reader.etag(), second)
    await writeFile(path, 'by someone else')
    t.notOk([first, second].includes(await reader.etag()))
  })

  await t.test('the entity tag of an unchanged image survives closing', async (t) => {
    const images = new ImageStates()
    const path = await imageFile(directory, pattern(8192))
    const image = await openImage(t, path, { images })
    await image.pwrite(Buffer.from('x'), 0)
    const tag = await image.etag()
    await image.close()
    t.equal(await (await openImage(t, path, { images })).etag(), tag)
    t.not(await (await openImage(t, path, { images: new ImageStates() })).etag(), tag)
  })

  await t.test('after a failed flush no flush of the image succeeds', async (t) => {
    const images = new ImageStates()
    const acquired: ReturnType<ImageStates['acquire']>[] = []
    const acquire = images.acquire.bind(images)
    images.acquire = (identity) => {
      const state = acquire(identity)
      acquired.push(state)
      return state
    }
    const path = await imageFile(directory, 4096)
    const [a, b] = [await openImage(t, path, { images }), await openImage(t, path, { images })]
    await a.flush()
    acquired[0]!.loseWrites(new Error('EIO'))
    for (const image of [a, b, a]) await t.rejects(image.flush(), { code: 'ERR_WRITES_LOST' })
  })
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
