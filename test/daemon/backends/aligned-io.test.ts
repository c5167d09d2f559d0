import t from 'tap'
import { AlignedIo, type PositionedCalls } from '../../../daemon/backends/aligned-io.js'
import { SystemError, allocateAligned, isAligned } from '../../../native/index.js'

const BLOCK = 512

/** A disk that enforces alignment as O_DIRECT does and may cut calls short. */
class StrictDisk implements PositionedCalls {
  data: Buffer
  calls = 0
  /** How many bytes of a write of this size are taken. */
  take = (size: number) => size

  constructor(size: number) {
    this.data = Buffer.from(Array.from({ length: size }, (_, index) => (index * 7) % 251))
  }

  /** Reads that fail because the file grows under them. */
  growths = 0

  async pread(_fd: number, buffer: Buffer, offset: number) {
    this.#check(buffer, offset)
    if (this.growths-- > 0) throw new SystemError('EINVAL', -22, 'pread', 'invalid argument')
    return offset >= this.data.length ? 0 : this.data.copy(buffer, 0, offset)
  }

  async pwrite(_fd: number, buffer: Buffer, offset: number) {
    this.#check(buffer, offset)
    const taken = this.take(buffer.length)
    buffer.copy(this.data, offset, 0, taken)
    return taken
  }

  #check(buffer: Buffer, offset: number) {
    this.calls++
    if (offset % BLOCK > 0 || buffer.length % BLOCK > 0 || !isAligned(buffer, BLOCK))
      throw new SystemError('EINVAL', -22, 'pread', 'invalid argument')
  }
}

function strict(size: number) {
  const disk = new StrictDisk(size)
  return { disk, io: new AlignedIo(3, { blockSize: BLOCK, memoryAlign: BLOCK }, disk) }
}

t.test('any offset and length is read, up to the end of the file', async (t) => {
  const { disk, io } = strict(5 * BLOCK + 100)
  for (const offset of [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, disk.data.length - 1]) {
    for (const size of [1, 2, BLOCK, BLOCK + 1, 3 * BLOCK, 10 * BLOCK]) {
      const buffer = Buffer.alloc(size, 0xee)
      const got = await io.read(buffer, offset)
      const expected = disk.data.subarray(offset, offset + size)
      t.equal(got, expected.length)
      t.ok(buffer.subarray(0, got).equals(expected))
      t.ok(
        buffer.subarray(got).every((byte) => byte === 0xee),
        'nothing behind it is touched',
      )
    }
  }
  t.equal(await io.read(Buffer.alloc(10), disk.data.length), 0)
  t.equal(await io.read(Buffer.alloc(10), disk.data.length + 5 * BLOCK), 0)
})

t.test('more than a bounce buffer is read and written in pieces', async (t) => {
  const { disk, io } = strict(3 * 1024 * 1024)
  const buffer = Buffer.alloc(disk.data.length - 3)
  t.equal(await io.read(buffer, 1), buffer.length)
  t.ok(buffer.equals(disk.data.subarray(1, -2)))
  const misplaced = allocateAligned(disk.data.length + BLOCK).subarray(1, disk.data.length + 1)
  misplaced.fill('abcdefg')
  await io.write(misplaced, 0)
  t.ok(disk.data.equals(misplaced))
})

t.test('an aligned buffer is used as it is', async (t) => {
  const { disk, io } = strict(4 * BLOCK)
  await io.read(allocateAligned(4 * BLOCK), 0)
  t.equal(disk.calls, 1)
})

t.test('a short write goes on at a block, whatever was taken', async (t) => {
  for (const take of [1, 100, BLOCK, BLOCK + 1, 2 * BLOCK - 1]) {
    const { disk, io } = strict(8 * BLOCK)
    let isShort = false
    disk.take = (size) => {
      isShort = !isShort
      return isShort ? Math.min(take, size) : size
    }
    const buffer = allocateAligned(6 * BLOCK).fill('xyz')
    const before = Buffer.from(disk.data)
    await io.write(buffer, BLOCK)
    t.ok(disk.data.subarray(BLOCK, 7 * BLOCK).equals(buffer))
    t.ok(disk.data.subarray(0, BLOCK).equals(before.subarray(0, BLOCK)))
    t.ok(disk.data.subarray(7 * BLOCK).equals(before.subarray(7 * BLOCK)))
  }
})

t.test('storage that takes nothing any more is an error, not a loop', async (t) => {
  for (const taken of [0, 1]) {
    const { disk, io } = strict(BLOCK)
    disk.take = () => taken
    await t.rejects(io.write(allocateAligned(BLOCK), 0), { code: 'ERR_STORAGE' })
  }
})

t.test('modifying a block keeps its other bytes', async (t) => {
  const { disk, io } = strict(2 * BLOCK)
  const expected = Buffer.from(disk.data)
  expected.write('hello', BLOCK + 7)
  await io.modifyBlock(Buffer.from('hello'), BLOCK + 7, 2 * BLOCK)
  t.ok(disk.data.equals(expected))
})

t.test('a block that should have been there and was not is never padded', async (t) => {
  const { disk, io } = strict(BLOCK + 10)
  const before = Buffer.from(disk.data)
  await t.rejects(io.modifyBlock(Buffer.from('hello'), BLOCK, 2 * BLOCK), { code: 'ERR_STORAGE' })
  t.ok(disk.data.equals(before))
})

t.test('a read that met a growing file is repeated, a number of times', async (t) => {
  const { disk, io } = strict(2 * BLOCK)
  const buffer = allocateAligned(BLOCK)
  disk.growths = 3
  t.equal(await io.read(buffer, 0), BLOCK)
  t.ok(disk.data.subarray(0, BLOCK).equals(buffer))
  disk.growths = Infinity
  await t.rejects(io.read(buffer, 0), { code: 'EINVAL' })
})
