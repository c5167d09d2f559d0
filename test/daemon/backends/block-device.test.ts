import { stat } from 'node:fs/promises'
import t from 'tap'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { loopDevice, withoutLoopDevices } from '../../support/loop-device.js'
import { collect, difference, etagOf, openImage, pattern, readAll } from './images.js'

const MiB = 1024 * 1024
const skip = await withoutLoopDevices()

for (const sectorSize of [512, 4096]) {
  t.test(`sectors of ${sectorSize} bytes`, { skip }, async (t) => {
    const { path, backing } = await loopDevice(t, { size: 8 * MiB, sectorSize })
    const images = new ImageStates()
    const device = await openImage(t, path, { images })
    const expected = pattern(8 * MiB)

    await t.test('is told as it is', async (t) => {
      t.match(device, { name: 'block-device', blockSize: sectorSize, maxReaders: 8, maxWriters: 8 })
      t.equal(await device.size(), 8 * MiB)
    })

    await t.test('any range is written and read', async (t) => {
      await device.pwrite(expected, 0)
      for (const offset of [0, 1, 511, 512, 4095, 4096, 12_289, 8 * MiB - 10_000]) {
        for (const length of [1, 511, 512, 513, 4096, 4097, 10_000]) {
          const bytes = pattern(length, offset + length)
          bytes.copy(expected, offset)
          await device.pwrite(bytes, offset)
          const found = Buffer.alloc(length)
          t.equal(await device.pread(found, offset), length)
          t.equal(difference(found, bytes), undefined)
        }
      }
      t.equal(difference(await readAll(device), expected), undefined)
    })

    await t.test('the last byte is written and nothing behind it', async (t) => {
      await device.pwrite(Buffer.from('!'), 8 * MiB - 1)
      expected.write('!', 8 * MiB - 1)
      const beyond = { code: 'ERR_BEYOND_END', statusCode: 500 }
      await t.rejects(device.pwrite(Buffer.from('?'), 8 * MiB), beyond)
      await t.rejects(device.pwrite(pattern(sectorSize + 1), 8 * MiB - sectorSize), beyond)
      for (const mayPunchHole of [true, false])
        await t.rejects(device.zero(8 * MiB - 1, 2, { mayPunchHole }), beyond)
      t.equal(difference(await readAll(device), expected), undefined)
      t.equal(await device.pread(Buffer.alloc(10), 8 * MiB - 3), 3)
      t.equal(await device.pread(Buffer.alloc(10), 8 * MiB), 0)
      t.equal(await device.pread(Buffer.alloc(10), 9 * MiB + 1), 0)
    })

    await t.test('any range is zeroed', async (t) => {
      for (const mayPunchHole of [true, false]) {
        for (const [offset, size] of [
          [0, 1],
          [511, 2],
          [4096, 4096],
          [10_001, 30_001],
          [8 * MiB - 1, 1],
          [3 * MiB - 7, 2 * MiB],
        ] as const) {
          await device.pwrite(expected, 0)
          await device.zero(offset, size, { mayPunchHole })
          const zeroed = Buffer.from(expected).fill(0, offset, offset + size)
          t.equal(difference(await readAll(device), zeroed), undefined, `${size} at ${offset}`)
        }
      }
    })

    await t.test('punching deallocates, zeroing keeps', async (t) => {
      await device.pwrite(expected, 0)
      await device.flush()
      // In MiB: a file system may count a block or two of its own.
      const allocated = async () => Math.round(((await stat(backing)).blocks * 512) / MiB)
      const full = await allocated()
      await device.zero(1 * MiB, 1 * MiB, { mayPunchHole: false })
      t.equal(await allocated(), full)
      await device.zero(2 * MiB, 1 * MiB, { mayPunchHole: true })
      t.equal(await allocated(), full - 1)
    })

    await t.test('what the device refuses is done otherwise', async (t) => {
      const others = new ImageStates()
      const acquire = others.acquire.bind(others)
      const refused = ['punch-hole', 'zero-range', 'zero-out']
      for (let count = 1; count <= refused.length; count++) {
        others.acquire = (identity) => {
          const state = acquire(identity)
          for (const name of refused.slice(0, count)) state.refused.add(name)
          return state
        }
        const other = await openImage(t, path, { images: others })
        await other.pwrite(expected, 0)
        await other.zero(10_001, 3 * MiB, { mayPunchHole: true })
        const zeroed = Buffer.from(expected).fill(0, 10_001, 10_001 + 3 * MiB)
        t.equal(difference(await readAll(other), zeroed), undefined, `${count} refused`)
        await other.close()
      }
    })

    await t.test('extents are data, since the kernel cannot tell', async (t) => {
      t.same(await collect(device.extents(0, 8 * MiB, 'zero')), [
        { start: 0, length: 8 * MiB, zero: false, hole: false },
      ])
      await t.rejects(collect(device.extents(0, 1, 'dirty')), {
        code: 'ERR_DIRTY_EXTENTS_UNAVAILABLE',
      })
    })

    await t.test('contexts in one sector lose no update', async (t) => {
      const contexts = await Promise.all([1, 2, 3, 4].map(() => openImage(t, path, { images })))
      await device.zero(0, 8192, { mayPunchHole: true })
      const sector = Buffer.alloc(8192)
      for (let round = 0; round < 200; round++) {
        await Promise.all(
          contexts.map((image, index) => {
            const offset = (sectorSize - 60 + index * 30 + round) % 8000
            const bytes = pattern(30, round * 4 + index)
            bytes.copy(sector, offset)
            return index === 3 && round % 4 === 0
              ? (sector.fill(0, offset, offset + 30),
                image.zero(offset, 30, { mayPunchHole: true }))
              : image.pwrite(bytes, offset)
          }),
        )
        const found = Buffer.alloc(8192)
        await device.pread(found, 0)
        if (!found.equals(sector)) t.fail(`round ${round}: ${difference(found, sector)}`)
      }
      t.pass('hundreds of rounds')
    })

    await t.test('the entity tag changes with writes and zeroes', async (t) => {
      const first = await etagOf(device)
      t.equal(await etagOf(device), first)
      await device.pwrite(Buffer.from('x'), 0)
      const second = await etagOf(device)
      t.not(second, first)
      await device.zero(0, 4096, { mayPunchHole: true })
      t.not(await etagOf(device), second)
    })
  })
}
