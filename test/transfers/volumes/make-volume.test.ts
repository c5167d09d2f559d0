/** Volumes that are created, and what is left when they cannot be: nothing. */
import { readdirSync, rmSync } from 'node:fs'
import { open, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { DirectoryVolumes } from '../../../transfers/volumes/directory-volumes.js'
import { verifyVolume } from '../../../transfers/verify/verify.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'
import { IMAGE, domain, spec } from './domain.js'

const KEEP = { wipe: false }
const skip = without('qemu-img')
const asRoot = process.getuid?.() === 0 ? false : 'needs root'

t.test('a sparse raw volume is a hole of whole sectors', async (t) => {
  const { path, volumes } = domain(t)
  t.same(await volumes.create(spec({ provisionedSize: MiB + 1 })), {
    length: MiB + 512,
    actualSize: 0,
  })
  t.same(await readdir(path), [IMAGE])
  t.same(await volumes.facts({ imageId: IMAGE }), { length: MiB + 512, actualSize: 0 })
  t.equal(volumes.path({ imageId: IMAGE }), join(path, IMAGE))
  t.equal(volumes.url({ imageId: IMAGE }), `file://${path}/${IMAGE}`)
})

t.test('a preallocated raw volume is allocated, and zero', async (t) => {
  const { volumes } = domain(t)
  const { actualSize } = await volumes.create(spec({ sparse: false }))
  t.ok(actualSize >= 4 * MiB)
  t.ok((await readFile(volumes.path({ imageId: IMAGE }))).equals(Buffer.alloc(4 * MiB)))
})

t.test('a cow volume is a qcow2 image that verification accepts', { skip }, async (t) => {
  for (const sparse of [true, false]) {
    const { volumes } = domain(t)
    const { actualSize } = await volumes.create(spec({ format: 'cow', sparse }))
    t.equal(actualSize >= 4 * MiB, !sparse)
    const path = volumes.path({ imageId: IMAGE })
    const result = await verifyVolume({ path, format: 'cow', provisionedSize: 4 * MiB })
    t.match(result, { ok: true, qcowVersion: 'qcow2_v3', virtualSize: 4 * MiB, warnings: [] })
  }
})

t.test('the daemon’s group may read and write, others may not', { skip: asRoot }, async (t) => {
  const before = process.umask(0o077)
  t.teardown(() => process.umask(before))
  const { volumes } = domain(t, { group: 12_345 })
  await volumes.create(spec())
  const { mode, gid } = await stat(volumes.path({ imageId: IMAGE }))
  t.equal(mode & 0o7777, 0o660)
  t.equal(gid, 12_345)
})

t.test('a volume never replaces another one', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  await volumes.create(spec({ sparse: false }))
  await writeFile(join(path, IMAGE), 'data')
  for (const format of ['raw', 'cow'] as const) {
    await t.rejects(volumes.create(spec({ format })), { message: /The image exists/ })
  }
  t.equal(await readFile(join(path, IMAGE), 'utf8'), 'data')
  const both = [1, 2].map(() => volumes.create(spec({ imageId: 'twice' })))
  const results = await Promise.allSettled(both)
  t.same(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  t.same((await readdir(path)).sort(), [IMAGE, 'twice'].sort())
})

t.test('what has no room is refused, and nothing is left', async (t) => {
  const { path, volumes } = domain(t)
  const { available, used } = await volumes.space()
  t.ok(available > 0 && used > 0)
  const size = available * 2
  const refusal = { statusCode: 409, reason: 'Operation Failed', message: /Low disk space/ }
  await t.rejects(volumes.create(spec({ provisionedSize: size, sparse: false })), refusal)
  await t.rejects(volumes.create(spec({ provisionedSize: size, initialSize: size })), refusal)
  await t.rejects(
    new DirectoryVolumes({ path, reserved: size }).create(spec({ initialSize: 1 })),
    refusal,
  )
  t.same(await readdir(path), [])
  await volumes.create(spec({ provisionedSize: Math.min(size, 2 ** 43) }))
})

t.test('a size that no image can have is refused, and nothing is left', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  const tooLarge = spec({ format: 'cow', provisionedSize: 2 ** 51 + 512 })
  const refusal = { statusCode: 409, message: /no files of this size/ }
  await t.rejects(volumes.create(tooLarge), refusal)
  t.same(await readdir(path), [])
  await volumes.create(spec({ format: 'cow' }))
  const before = await readFile(join(path, IMAGE))
  await t.rejects(volumes.grow(tooLarge), refusal)
  t.ok(before.equals(await readFile(join(path, IMAGE))))
})

t.test('a file larger than the file system takes is refused, and nothing is left', async (t) => {
  const { path, volumes } = domain(t)
  const size = 2 ** 53 - 512
  const file = await open(join(path, 'probe'), 'w')
  const code = await file.truncate(size).then(
    () => undefined,
    (error: unknown) => (error as NodeJS.ErrnoException).code,
  )
  await file.close()
  if (code !== 'EFBIG') return void t.pass('this one takes it')
  rmSync(join(path, 'probe'))
  const refusal = { statusCode: 409, message: /no files of this size/ }
  await t.rejects(volumes.create(spec({ provisionedSize: size })), refusal)
  t.same(await readdir(path), [])
  await volumes.create(spec())
  await t.rejects(volumes.grow(spec({ provisionedSize: size })), refusal)
  t.match(await volumes.facts({ imageId: IMAGE }), { length: 4 * MiB })
})

t.test('a file system that is full, or has no such files', { skip: asRoot }, async (t) => {
  const { path } = domain(t)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', path])
  t.teardown(() => run('umount', [path]))
  // As when others have written meanwhile.
  const volumes = new (class extends DirectoryVolumes {
    override space() {
      return Promise.resolve({ available: 1e15, used: 0 })
    }
  })({ path })
  const refusal = { statusCode: 409, message: /Low disk space/ }
  await t.rejects(volumes.create(spec({ sparse: false })), refusal)
  if (!skip) await t.rejects(volumes.create(spec({ format: 'cow', sparse: false })), refusal)
  t.same(await readdir(path), [])
})

t.test('without the group, without qemu-img, without a directory: an error', async (t) => {
  const { path, volumes } = domain(t)
  const before = process.env['PATH']
  process.env['PATH'] = '/nonexistent'
  t.teardown(() => (process.env['PATH'] = before))
  await t.rejects(volumes.create(spec({ format: 'cow' })), /cannot run qemu-img/)
  t.same(await readdir(path), [])
  const gone = new DirectoryVolumes({ path: join(path, 'gone') })
  await t.rejects(gone.create(spec()), { code: 'ENOENT' })
  await t.rejects(gone.remove({ imageId: IMAGE }, KEEP), { code: 'ENOENT' })
  await t.rejects(volumes.facts({ imageId: IMAGE }), { code: 'ENOENT' })
})

t.test('a creation that is cancelled leaves nothing', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  await t.rejects(volumes.create(spec(), AbortSignal.abort()), /abort/)
  const control = new AbortController()
  const creation = volumes.create(spec({ format: 'cow' }), control.signal)
  creation.catch(() => undefined)
  await until('it has begun', () => readdirSync(path).length > 0, { everyMs: 1 })
  control.abort()
  await creation.then(
    () => t.same(readdirSync(path), [IMAGE], 'too late'),
    () => t.same(readdirSync(path), []),
  )
})
