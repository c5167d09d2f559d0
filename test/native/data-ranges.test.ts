import { join } from 'node:path'
import t from 'tap'
import { closeDescriptor, dataRanges, openPath } from '../../native/index.js'
import { createFile, memoryDirectory, MiB, open } from './files.js'

const BLOCK = 64 * 1024
const DATA = Buffer.alloc(BLOCK, 1)

/** Data in every second block. */
function fragments(count: number): { offset: number; data: Buffer }[] {
  return Array.from({ length: count }, (_, index) => ({
    offset: (2 * index + 1) * BLOCK,
    data: DATA,
  }))
}

function rangesOf(count: number): { start: number; end: number }[] {
  return fragments(count).map(({ offset }) => ({ start: offset, end: offset + BLOCK }))
}

t.test('data and holes of a fragmented file', async (t) => {
  const size = 21 * BLOCK
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), size, fragments(10)))
  t.same(await dataRanges(fd, 0, size, 100), { ranges: rangesOf(10), next: size })
})

t.test('ranges are clipped to what was asked', async (t) => {
  const size = 21 * BLOCK
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), size, fragments(10)))
  t.same(await dataRanges(fd, BLOCK + 10, 4 * BLOCK - 10, 100), {
    ranges: [
      { start: BLOCK + 10, end: 2 * BLOCK },
      { start: 3 * BLOCK, end: 4 * BLOCK - 10 },
    ],
    next: 4 * BLOCK - 10,
  })
  t.same(await dataRanges(fd, 0, BLOCK, 100), { ranges: [], next: BLOCK }, 'ends before data')
  t.same(await dataRanges(fd, 5, 5, 100), { ranges: [], next: 5 }, 'nothing asked')
})

t.test('a limit is kept, and asking from next on finds the rest', async (t) => {
  const size = 101 * BLOCK
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), size, fragments(50)))
  const found = []
  let next = 0
  for (let calls = 1; next < size; calls++) {
    const part = await dataRanges(fd, next, size, 7)
    t.ok(part.ranges.length <= 7 && part.next > next)
    found.push(...part.ranges)
    next = part.next
    if (calls > 100) {
      t.fail('no end')
      return
    }
  }
  t.same(found, rangesOf(50))
})

t.test('a file that ends before the range has a hole there', async (t) => {
  const entries = [{ offset: 0, data: DATA }]
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), BLOCK, entries))
  t.same(await dataRanges(fd, 0, MiB, 100), { ranges: [{ start: 0, end: BLOCK }], next: MiB })
  t.same(await dataRanges(fd, 2 * BLOCK, MiB, 100), { ranges: [], next: MiB })
  const empty = await open(t, createFile(join(memoryDirectory(t), 'image'), 0))
  t.same(await dataRanges(empty, 0, MiB, 100), { ranges: [], next: MiB })
})

t.test('files all data and all hole', async (t) => {
  const directory = memoryDirectory(t)
  const hole = await open(t, createFile(join(directory, 'hole'), 8 * 1024 ** 4))
  const size = 8 * 1024 ** 4
  t.same(await dataRanges(hole, 0, size, 1), { ranges: [], next: size })
  const entries = [{ offset: 0, data: DATA }]
  const data = await open(t, createFile(join(directory, 'data'), BLOCK, entries))
  const all = { ranges: [{ start: 0, end: BLOCK }], next: BLOCK }
  t.same(await dataRanges(data, 0, BLOCK, 1), all)
})

t.test('what cannot be sought is rejected', async (t) => {
  const place = await openPath(createFile(join(memoryDirectory(t), 'image'), 10))
  const error = { code: 'EBADF', syscall: 'lseek(SEEK_DATA)' }
  await t.rejects(dataRanges(place, 0, 10, 1), error)
  await closeDescriptor(place)
})
