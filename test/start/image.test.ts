import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../core/units.js'
import { inspectImage } from '../../start/image.js'
import { makeSample } from '../../start/sample.js'

t.test('an image file has its size', async (t) => {
  const path = join(t.testdir({ 'a.img': '' }), 'a.img')
  t.equal(await inspectImage(path, true), 0)
  truncateSync(path, 2 ** 41)
  t.equal(await inspectImage(path, false), 2 ** 41)
})

t.test('what cannot be served is said in one line', async (t) => {
  const dir = t.testdir({ file: 'text' })
  const fifo = join(dir, 'fifo')
  execFileSync('mkfifo', [fifo])
  const message = (path: string, reason: string) => ({
    name: 'StartError',
    message: `${path}: ${reason}`,
  })
  const missing = join(dir, 'missing')
  await t.rejects(inspectImage(missing, false), message(missing, 'no such file'))
  for (const path of [dir, fifo, '/dev/null']) {
    await t.rejects(inspectImage(path, false), message(path, 'not a regular file or block device'))
  }
})

t.test(
  'permissions are looked at first',
  { skip: process.getuid?.() === 0 && 'root may read everything' },
  async (t) => {
    const path = join(t.testdir({ 'a.img': 'text' }), 'a.img')
    chmodSync(path, 0o400)
    t.equal(await inspectImage(path, false), 4)
    await t.rejects(inspectImage(path, true), { message: /may not be read and written$/ })
    chmodSync(path, 0)
    await t.rejects(inspectImage(path, false), { message: /may not be read$/ })
  },
)

t.test('the sample is small, mostly hole, and never made over another file', async (t) => {
  const path = join(t.testdir({}), 'sample.img')
  await makeSample(path)
  const { size, blocks } = statSync(path)
  t.equal(size, 64 * MiB)
  t.ok(blocks * 512 < 16 * MiB)
  t.match(readFileSync(path).subarray(0, 20).toString(), 'This is the sample')
  await t.rejects(makeSample(path), { code: 'EEXIST' })
})
