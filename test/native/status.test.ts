import { execFileSync } from 'node:child_process'
import { mkdirSync, statSync, utimesSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { closeDescriptor, openPath, status, type FileStatus } from '../../native/index.js'
import { createFile, diskDirectory, memoryDirectory } from './files.js'

async function statusOf(path: string): Promise<FileStatus> {
  const fd = await openPath(path)
  try {
    return await status(fd)
  } finally {
    await closeDescriptor(fd)
  }
}

t.test('every kind of file has its type', async (t) => {
  const directory = memoryDirectory(t)
  t.equal((await statusOf(createFile(join(directory, 'file'), 1))).type, 'file')
  mkdirSync(join(directory, 'directory'))
  t.equal((await statusOf(join(directory, 'directory'))).type, 'directory')
  execFileSync('mkfifo', [join(directory, 'fifo')])
  t.equal((await statusOf(join(directory, 'fifo'))).type, 'fifo')
  t.equal((await statusOf('/dev/null')).type, 'character-device')

  const server = createServer()
  await new Promise<void>((resolve) => server.listen(join(directory, 'socket'), resolve))
  t.equal((await statusOf(join(directory, 'socket'))).type, 'socket')
  server.close()
})

t.test('numbers are those of stat', async (t) => {
  const data = Buffer.alloc(10_000, 1)
  const path = createFile(join(diskDirectory(t), 'image'), 1_000_000, [{ offset: 0, data }])
  const found = await statusOf(path)
  const expected = statSync(path, { bigint: true })
  t.equal(found.size, 1_000_000)
  t.equal(found.allocated, Number(expected.blocks) * 512)
  t.equal(found.inode, expected.ino)
  t.equal(found.device, Number(expected.dev))
  t.equal(found.mtimeNs, expected.mtimeNs)
  t.equal(found.ctimeNs, expected.ctimeNs)
  t.equal((await statusOf('/dev/null')).rdev, statSync('/dev/null').rdev)
})

t.test('times before 1970 and after 2262 are whole', async (t) => {
  const path = createFile(join(memoryDirectory(t), 'image'), 0)
  for (const seconds of [-1_000_000_000, 0, 10_000_000_000]) {
    const date = new Date(seconds * 1000)
    utimesSync(path, date, date)
    t.equal((await statusOf(path)).mtimeNs, BigInt(seconds) * 1_000_000_000n)
  }
})

t.test('the alignment of direct I/O is a power of two, 0 or not told', async (t) => {
  const found = await statusOf(createFile(join(diskDirectory(t), 'image'), 4096))
  t.equal('directMemoryAlign' in found, 'directOffsetAlign' in found)
  for (const align of [found.directMemoryAlign ?? 0, found.directOffsetAlign ?? 0]) {
    t.equal(align & (align - 1), 0)
  }
  const ofFifo = await statusOf('/dev/null')
  t.notOk('directOffsetAlign' in ofFifo, 'never told of what is neither file nor block device')
})
