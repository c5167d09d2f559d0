import { stat } from 'node:fs/promises'
import type { Test } from 'tap'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { collect, content, difference, imageFile, openImage, pattern, readAll } from './images.js'
import { inEachPlace } from './places.js'

const MiB = 1024 * 1024

inEachPlace(async (t, directory) => {
  await edges(t, directory)
  await growth(t, directory)
})

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
