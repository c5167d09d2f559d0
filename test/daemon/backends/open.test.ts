import { execFileSync } from 'node:child_process'
import { readdirSync, readlinkSync, realpathSync } from 'node:fs'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { normalizeUrl, openFile } from '../../../daemon/backends/open.js'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { loopDevice, withoutLoopDevices } from '../../support/loop-device.js'
import { etagOf, imageFile, openImage, pattern, readAll } from './images.js'

const skip = await withoutLoopDevices()
const options = { writable: true, maxConnections: 4, allowedPaths: [], images: new ImageStates() }

/** What this process has open, to see that a refusal leaves nothing behind. */
const openDescriptors = () =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)]
    } catch {
      return []
    }
  })

t.test('file URLs with an absolute path are supported, in any case', (t) => {
  for (const url of ['file:///a', 'file:/a', 'FILE:/a', 'File://host/a', 'file:////a', 'file:/'])
    t.doesNotThrow(() => normalizeUrl(url), url)
  for (const url of [
    'file:a',
    'file:',
    'file://',
    'file://host',
    'file://host?/a',
    'http://host/a',
    '/a',
    '',
    'file:/a\0b',
    'xfile:/a',
  ])
    t.throws(() => normalizeUrl(url), { code: 'ERR_UNSUPPORTED_URL' }, JSON.stringify(url))
  t.end()
})

t.test('URLs are re-serialised with slashes and a lower-case scheme', (t) => {
  t.equal(normalizeUrl('file:/a'), 'file:///a')
  t.equal(normalizeUrl('FILE:/a/B'), 'file:///a/B')
  t.equal(normalizeUrl('file:///a'), 'file:///a')
  t.equal(normalizeUrl('file://host/a'), 'file://host/a')
  t.throws(() => normalizeUrl('file:a'), { code: 'ERR_UNSUPPORTED_URL' })
  t.end()
})

t.test('the path is taken literally', async (t) => {
  const directory = t.testdir({})
  for (const name of ['a%20b', 'a?b', 'a#b', 'a;b', 'a b', 'ä\n', '%2e%2e']) {
    const path = join(directory, name)
    await writeFile(path, name)
    const image = await openImage(t, path)
    t.equal(String(await readAll(image)), name)
    await image.close()
  }
})

t.test('a host in the URL means nothing', async (t) => {
  const path = await imageFile(t.testdir({}), pattern(10))
  const image = await openFile(`file://somewhere${path}`, options)
  t.equal(await image.size(), 10)
  await image.close()
})

t.test('a missing file and a directory on the way are errors without the path', async (t) => {
  const directory = t.testdir({ file: '' })
  for (const path of ['missing', 'missing/deeper', 'file/below']) {
    const error = await openFile(`file://${directory}/${path}`, options).catch((e: unknown) => e)
    t.match(error, { code: 'ERR_BACKEND_OPEN', message: /it does not exist/ })
    t.notMatch(error, { message: /missing|file\/|ENO/ })
  }
})

t.test('what is neither file nor block device is refused by kind, at once', async (t) => {
  const directory = t.testdir({ directory: {} })
  execFileSync('mkfifo', [join(directory, 'fifo')])
  const socket = `/tmp/imageio-open-test-${process.pid}.sock`
  const server = createServer().listen(socket)
  t.teardown(() => server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  const kinds = {
    [join(directory, 'directory')]: 'directory',
    [join(directory, 'fifo')]: 'FIFO',
    [socket]: 'socket',
    '/dev/null': 'character device',
  }
  for (const [path, kind] of Object.entries(kinds)) {
    for (const writable of [true, false])
      await t.rejects(openFile(`file://${path}`, { ...options, writable }), {
        code: 'ERR_UNSUPPORTED_IMAGE',
        statusCode: 500,
        message: new RegExp(`but a ${kind}$`),
      })
    // Standard input is /dev/null under some runners.
    if (path !== '/dev/null') t.notOk(openDescriptors().includes(path), 'nothing stays open')
  }
})

t.test('links are followed, and the end must lie under an allowed directory', async (t) => {
  const directory = realpathSync(t.testdir({}))
  await mkdir(join(directory, 'allowed', 'deep'), { recursive: true })
  await mkdir(join(directory, 'allowed-not'))
  await writeFile(join(directory, 'allowed', 'deep', 'image'), 'inside')
  await writeFile(join(directory, 'allowed-not', 'image'), 'outside')
  await symlink('deep/image', join(directory, 'allowed', 'link-inside'))
  await symlink('../allowed-not/image', join(directory, 'allowed', 'link-outside'))
  await symlink('allowed', join(directory, 'other-name'))
  const open = (path: string, ...allowed: string[]) =>
    openImage(t, join(directory, path), {
      allowedPaths: allowed.map((name) => join(directory, name)),
    })
  for (const path of ['allowed/deep/image', 'allowed/link-inside', 'other-name/deep/image'])
    t.equal(String(await readAll(await open(path, 'allowed'))), 'inside', path)
  const denied = { code: 'ERR_PATH_NOT_ALLOWED', statusCode: 500 }
  for (const path of [
    'allowed/link-outside',
    'allowed-not/image',
    'allowed/../allowed-not/image',
    'allowed/deep/../../allowed-not/image',
  ])
    await t.rejects(open(path, 'allowed'), denied, path)
  t.ok(await open('allowed/link-outside', 'allowed', 'allowed-not'), 'one of several is enough')
  t.ok(await open('allowed/deep/image', 'other-name'), 'an allowed directory may be a link')
  t.ok(await open('allowed/deep/image', 'allowed/'), 'and may end in a slash')
  await t.rejects(open('allowed/deep/image', 'missing'), denied)
})

t.test('a file without write permission opens for reading only', async (t) => {
  const path = await imageFile(t.testdir({}), pattern(100))
  await chmod(path, 0o444)
  const image = await openImage(t, path, { writable: false })
  t.equal((await readAll(image)).length, 100)
  // Root may write anything.
  if (process.getuid?.() === 0) return
  await t.rejects(openImage(t, path), { code: 'ERR_BACKEND_OPEN', message: /permission denied/ })
})

t.test('a read-only device is read and not written', { skip }, async (t) => {
  const { path } = await loopDevice(t, { size: 1024 * 1024, isReadOnly: true })
  t.equal(await (await openImage(t, path, { writable: false })).size(), 1024 * 1024)
  // Some kernels refuse to open it, some to write.
  const write = async () => (await openImage(t, path)).pwrite(pattern(5), 3)
  await t.rejects(write(), { code: /ERR_BACKEND_OPEN|ERR_STORAGE_READ_ONLY/ })
})

t.test('paths to one file share its state, other files do not', async (t) => {
  const directory = t.testdir({})
  const path = await imageFile(directory, pattern(4096))
  const link = join(directory, 'link')
  await symlink(path, link)
  const images = new ImageStates()
  const [a, b] = [await openImage(t, path, { images }), await openImage(t, link, { images })]
  const other = await openImage(t, await imageFile(directory, pattern(4096)), { images })
  const [before, otherBefore] = [await etagOf(b), await etagOf(other)]
  t.equal(await etagOf(a), before)
  await a.pwrite(Buffer.from('x'), 0)
  t.not(await etagOf(b), before)
  t.equal(await etagOf(other), otherBefore)
})

t.test('an open image leaves no descriptor behind when it is closed', async (t) => {
  const path = realpathSync(await imageFile(t.testdir({}), pattern(1000)))
  const image = await openImage(t, path)
  await image.pwrite(Buffer.from('grows'), 998)
  t.equal(openDescriptors().filter((open) => open === path).length, 2)
  await image.close()
  t.equal(openDescriptors().filter((open) => open === path).length, 0)
})
