import { statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { SystemError, fallocate, pread, status, truncate } from '../../native/index.js'
import { createFile, diskDirectory, memoryDirectory, MiB, open } from './files.js'

const ONES = Buffer.alloc(MiB, 1)

t.test('truncate makes a file longer with a hole, and shorter', async (t) => {
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), 0), { write: true })
  await truncate(fd, 10 * MiB)
  t.match(await status(fd), { size: 10 * MiB, allocated: 0 })
  await truncate(fd, 1)
  t.equal((await status(fd)).size, 1)
})

t.test('allocate reserves space and extends the file', async (t) => {
  const path = createFile(join(diskDirectory(t), 'image'), 0)
  const fd = await open(t, path, { write: true })
  await fallocate(fd, 'allocate', 0, 2 * MiB)
  t.equal(statSync(path).size, 2 * MiB)
  t.ok((await status(fd)).allocated >= 2 * MiB)
})

t.test('a punched hole frees space, keeps the size and reads as zeroes', async (t) => {
  const entries = [{ offset: 0, data: ONES }]
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), MiB, entries), {
    write: true,
  })
  const before = (await status(fd)).allocated
  await fallocate(fd, 'punch-hole', 4096, 512 * 1024)
  const after = await status(fd)
  t.equal(after.size, MiB)
  t.ok(after.allocated <= before - 512 * 1024)
  const buffer = Buffer.alloc(4096 + 512 * 1024 + 1)
  await pread(fd, buffer, 0)
  t.equal(buffer.indexOf(0), 4096)
  t.equal(buffer.lastIndexOf(0), 4096 + 512 * 1024 - 1)
  await fallocate(fd, 'punch-hole', MiB - 10, MiB)
  t.equal((await status(fd)).size, MiB, 'also when the hole reaches past the end')
})

t.test('a zeroed range reads as zeroes and stays allocated', async (t) => {
  const entries = [{ offset: 0, data: ONES }]
  const fd = await open(t, createFile(join(diskDirectory(t), 'image'), MiB, entries), {
    write: true,
  })
  try {
    await fallocate(fd, 'zero-range', 10, MiB)
  } catch (error) {
    if (!(error instanceof SystemError && error.code === 'EOPNOTSUPP')) throw error
    t.plan(0, 'the file system has no zero-range')
    return
  }
  const { size, allocated } = await status(fd)
  t.equal(size, MiB + 10)
  t.ok(allocated >= MiB)
  const buffer = Buffer.alloc(MiB, 9)
  t.equal(await pread(fd, buffer, 10), MiB)
  t.ok(buffer.equals(Buffer.alloc(MiB)))
})

t.test('what cannot be allocated is rejected', async (t) => {
  const path = createFile(join(memoryDirectory(t), 'image'), 1)
  const fd = await open(t, path, { write: true })
  await t.rejects(fallocate(fd, 'allocate', 0, 0), { code: 'EINVAL', syscall: 'fallocate' })
  await t.rejects(fallocate(await open(t, path), 'allocate', 0, 1), { code: 'EBADF' })
  const device = await open(t, '/dev/null', { write: true })
  await t.rejects(fallocate(device, 'allocate', 0, 1), { code: 'ENODEV', errno: -19 })
})
