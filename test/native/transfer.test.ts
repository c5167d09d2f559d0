import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { freemem } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import {
  PAGE_SIZE,
  SystemError,
  allocateAligned,
  fdatasync,
  pread,
  pwrite,
  status,
  truncate,
} from '../../native/index.js'
import { createFile, diskDirectory, KiB, memoryDirectory, MiB, open, openDirect } from './files.js'

function pattern(size: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 7 + 3) % 251))
}

t.test('what was written is read back, at any offset', async (t) => {
  const path = createFile(join(memoryDirectory(t), 'image'), 0)
  const fd = await open(t, path, { write: true })
  const data = pattern(10_001)
  t.equal(await pwrite(fd, data, 0), data.length)
  t.equal(await pwrite(fd, data, 12_345), data.length)
  const back = Buffer.alloc(data.length)
  t.equal(await pread(fd, back, 12_345), data.length)
  t.ok(back.equals(data))
  t.equal(await pread(fd, back.subarray(0, 1), 12_344), 1)
  t.equal(back[0], 0, 'the gap between reads as zeroes')
  await fdatasync(fd)
  t.ok(readFileSync(path).subarray(0, data.length).equals(data))
})

t.test('offsets beyond 4 GiB keep all their bits', async (t) => {
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), 0), { write: true })
  const offset = 8 * 1024 ** 4 + 5
  t.equal(await pwrite(fd, Buffer.from('far'), offset), 3)
  const back = Buffer.alloc(4)
  t.equal(await pread(fd, back, offset - 1), 4)
  t.equal(back.toString(), '\0far')
})

t.test('a read stops at the end of the file', async (t) => {
  const data = pattern(5000)
  const path = createFile(join(memoryDirectory(t), 'image'), data.length, [{ offset: 0, data }])
  const fd = await open(t, path)
  const buffer = Buffer.alloc(8192, 0xff)
  t.equal(await pread(fd, buffer, 0), 5000)
  t.equal(buffer[5000], 0xff, 'bytes past the end are left alone')
  t.equal(await pread(fd, buffer, 4999), 1)
  t.equal(await pread(fd, buffer, 5000), 0)
  t.equal(await pread(fd, buffer, Number.MAX_SAFE_INTEGER), 0)
})

const noRoom = freemem() < 4 * 1024 * MiB && 'needs 2 GiB of memory'

t.test('a read of more than one system call can deliver is whole', { skip: noRoom }, async (t) => {
  const fd = await open(t, '/dev/zero')
  const size = 2 ** 31 + 10
  const buffer = allocateAligned(size)
  buffer[size - 1] = 1
  t.equal(await pread(fd, buffer, 0), size)
  t.equal(buffer[size - 1], 0)
})

t.test('buffers of size 0 are read and written', async (t) => {
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), 10), { write: true })
  t.equal(await pread(fd, Buffer.alloc(0), 0), 0)
  t.equal(await pwrite(fd, Buffer.alloc(0), 0), 0)
  t.equal(await pread(fd, Buffer.alloc(0), 1000), 0)
})

t.test('direct I/O of whole blocks', async (t) => {
  const path = createFile(join(diskDirectory(t), 'image'), 4 * PAGE_SIZE)
  const fd = await openDirect(t, path, true)
  if (fd === undefined) {
    t.plan(0, 'no direct I/O in this file system')
    return
  }
  const buffer = allocateAligned(2 * PAGE_SIZE)
  pattern(buffer.length).copy(buffer)
  t.equal(await pwrite(fd, buffer, PAGE_SIZE), buffer.length)
  const back = allocateAligned(2 * PAGE_SIZE)
  t.equal(await pread(fd, back, PAGE_SIZE), back.length)
  t.ok(back.equals(buffer))

  // A tmpfs takes the flag and anything.
  const { directOffsetAlign = 0 } = await status(fd)
  const skip = directOffsetAlign < 512 && 'no alignment is asked for here'
  t.test('refuses what is not aligned', { skip }, async (t) => {
    const einval = { name: 'SystemError', code: 'EINVAL', errno: -22 }
    // Not at offset 0: a hole is read without asking the device.
    await t.rejects(pread(fd, buffer.subarray(0, 100), PAGE_SIZE), { ...einval, syscall: 'pread' })
    await t.rejects(pread(fd, buffer, 1), { ...einval, syscall: 'pread' })
    await t.rejects(pwrite(fd, buffer.subarray(0, 100), 0), { ...einval, syscall: 'pwrite' })
  })
})

t.test('a direct read ends with a file of odd size', async (t) => {
  const sizes = [1, 511, 512, 513, 4095, 4096, 4097, 4096 + 512, 3 * 4096 - 1, 64 * KiB + 100]
  for (const size of sizes) {
    const data = pattern(size)
    const path = createFile(join(diskDirectory(t), 'image'), size, [{ offset: 0, data }])
    const fd = await openDirect(t, path)
    if (fd === undefined) {
      t.plan(0, 'no direct I/O in this file system')
      return
    }
    const buffer = allocateAligned(128 * KiB)
    t.equal(await pread(fd, buffer, 0), size, `${size} bytes`)
    t.ok(buffer.subarray(0, size).equals(data))
    t.equal(await pread(fd, buffer, 128 * KiB), 0, 'nothing beyond the end')
  }
})

t.test('a full device rejects with ENOSPC', async (t) => {
  const fd = await open(t, '/dev/full', { write: true })
  await t.rejects(pwrite(fd, Buffer.alloc(1), 0), {
    code: 'ENOSPC',
    errno: -28,
    syscall: 'pwrite',
    message: 'ENOSPC: No space left on device, pwrite',
  })
})

t.test('a write that partly fits tells how much was written', async (t) => {
  const directory = join(memoryDirectory(t), 'small')
  mkdirSync(directory)
  const mount = ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory]
  if (spawnSync('mount', mount).status !== 0) {
    t.plan(0, 'may not mount')
    return
  }
  t.teardown(() => execFileSync('umount', ['--lazy', directory]))
  const fd = await open(t, createFile(join(directory, 'image'), 0), { write: true })
  const buffer = Buffer.alloc(MiB, 1)
  const written = await pwrite(fd, buffer, 0)
  t.ok(written > 0 && written <= 64 * KiB, `${written} bytes fit`)
  await t.rejects(pwrite(fd, buffer, written), { code: 'ENOSPC' })
})

t.test('errors are SystemErrors with code, errno and system call', async (t) => {
  const buffer = Buffer.alloc(1)
  for (const call of [() => pread(99_999, buffer, 0), () => pread(99_999, Buffer.alloc(0), 0)]) {
    const error: unknown = await call().then(
      () => undefined,
      (reason: unknown) => reason,
    )
    t.type(error, SystemError)
    t.match(error, { code: 'EBADF', errno: -9, syscall: 'pread' })
  }
  await t.rejects(pwrite(99_999, buffer, 0), { code: 'EBADF', syscall: 'pwrite' })
  await t.rejects(fdatasync(99_999), { code: 'EBADF', syscall: 'fdatasync' })
  await t.rejects(truncate(99_999, 0), { code: 'EBADF', syscall: 'ftruncate' })
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), 1))
  await t.rejects(pwrite(fd, buffer, 0), { code: 'EBADF', syscall: 'pwrite' }, 'opened for reading')
})
