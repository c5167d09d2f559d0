import { execFileSync } from 'node:child_process'
import { openSync, closeSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  closeDescriptor,
  descriptorPath,
  openPath,
  pread,
  pwrite,
  reopen,
  status,
} from '../../native/index.js'
import { createFile, memoryDirectory, open } from './files.js'

t.test('a FIFO without a writer is opened at once', async (t) => {
  const path = join(memoryDirectory(t), 'fifo')
  execFileSync('mkfifo', [path])
  const fd = await openPath(path)
  t.equal((await status(fd)).type, 'fifo')
  await closeDescriptor(fd)
})

t.test('symbolic links are followed, also in the middle of a path', async (t) => {
  const directory = memoryDirectory(t)
  mkdirSync(join(directory, 'real'))
  createFile(join(directory, 'real', 'image'), 42)
  symlinkSync('real', join(directory, 'link'))
  symlinkSync('image', join(directory, 'real', 'alias'))
  const fd = await openPath(join(directory, 'link', 'alias'))
  t.equal(descriptorPath(fd), join(directory, 'real', 'image'))
  t.equal((await status(fd)).size, 42)
  await closeDescriptor(fd)
})

t.test('magic links of /proc are refused', async (t) => {
  const directory = memoryDirectory(t)
  const fd = openSync(createFile(join(directory, 'image'), 1), 'r')
  t.teardown(() => closeSync(fd))
  const refused = { code: 'ELOOP', errno: -40, syscall: 'openat2' }
  await t.rejects(openPath(`/proc/self/fd/${fd}`), refused)
  await t.rejects(openPath('/proc/self/root/etc'), refused)
  symlinkSync(`/proc/self/fd/${fd}`, join(directory, 'link'))
  await t.rejects(openPath(join(directory, 'link')), refused, 'also behind a symbolic link')
})

t.test('what is not there is ENOENT', async (t) => {
  const directory = memoryDirectory(t)
  await t.rejects(openPath(join(directory, 'none')), { code: 'ENOENT', syscall: 'openat2' })
  symlinkSync('none', join(directory, 'dangling'))
  await t.rejects(openPath(join(directory, 'dangling')), { code: 'ENOENT' })
  createFile(join(directory, 'image'), 1)
  await t.rejects(openPath(join(directory, 'image', 'below')), { code: 'ENOTDIR' })
  await t.rejects(openPath(join(directory, 'a'.repeat(300))), { code: 'ENAMETOOLONG' })
})

t.test('an opened place is not for I/O', async (t) => {
  const fd = await openPath(createFile(join(memoryDirectory(t), 'image'), 10))
  await t.rejects(pread(fd, Buffer.alloc(1), 0), { code: 'EBADF' })
  await closeDescriptor(fd)
})

t.test('reopen is about the opened file, whatever its name stands for by now', async (t) => {
  const path = join(memoryDirectory(t), 'image')
  writeFileSync(path, 'first')
  const place = await openPath(path)
  rmSync(path)
  writeFileSync(path, 'second')
  const fd = await reopen(place, { write: true, direct: false })
  t.teardown(() => closeDescriptor(fd))
  await closeDescriptor(place)
  const buffer = Buffer.alloc(10)
  t.equal(await pread(fd, buffer, 0), 5)
  t.equal(buffer.toString('latin1', 0, 5), 'first')
  t.match(descriptorPath(fd), / \(deleted\)$/)
})

t.test('reopen for reading does not allow writing', async (t) => {
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), 10))
  await t.rejects(pwrite(fd, Buffer.alloc(1), 0), { code: 'EBADF' })
})

t.test('descriptors are not inherited by children', async (t) => {
  const fd = await open(t, createFile(join(memoryDirectory(t), 'image'), 10))
  const listed = execFileSync('ls', [`/proc/self/fd`], { encoding: 'utf8' }).split('\n')
  t.notOk(listed.includes(String(fd)))
})

t.test('a directory cannot be opened for writing', async (t) => {
  const place = await openPath(memoryDirectory(t))
  await t.rejects(reopen(place, { write: true, direct: false }), {
    code: 'EISDIR',
    syscall: 'open',
  })
  await closeDescriptor(place)
})

t.test('long paths are told whole', async (t) => {
  let directory = memoryDirectory(t)
  for (let depth = 0; depth < 8; depth++) {
    directory = join(directory, 'd'.repeat(200))
    mkdirSync(directory)
  }
  const fd = await openPath(directory)
  t.equal(descriptorPath(fd), directory)
  await closeDescriptor(fd)
})

t.test('numbers that are no open descriptor are EBADF', async (t) => {
  const call = { write: false, direct: false }
  await t.rejects(reopen(99_999, call), { code: 'EBADF', syscall: 'open' })
  await t.rejects(closeDescriptor(99_999), { code: 'EBADF', errno: -9, syscall: 'close' })
  await t.rejects(status(99_999), { code: 'EBADF', syscall: 'statx' })
  t.throws(() => descriptorPath(99_999), {
    name: 'SystemError',
    code: 'EBADF',
    syscall: 'readlink',
  })
})
