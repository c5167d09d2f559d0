import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import {
  link,
  mkdir,
  open,
  readFile,
  readdir,
  rename,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DirectoryVolumes } from '../../../transfers/volumes/directory-volumes.js'
import { MARKER } from '../../../transfers/volumes/domain-marker.js'
import { growVolume } from '../../../transfers/volumes/grow-volume.js'
import type { VolumeSpec } from '../../../transfers/volumes/volume-provider.js'
import { verifyVolume } from '../../../transfers/verify/verify.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'

const MiB = 1024 * 1024
const IMAGE = '4f2a1a0c-8a1e-4b4c-9a0e-0d8f6a1b2c3d'
const KEEP = { wipe: false }
const skip = without('qemu-img')
const asRoot = process.getuid?.() === 0 ? false : 'needs root'

function domain(t: Test, options: { group?: number; reserved?: number } = {}) {
  const path = mkdtempSync(join(tmpdir(), 'imageio-volumes-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return { path, volumes: new DirectoryVolumes({ path, ...options }) }
}

function spec(fields: Partial<VolumeSpec> = {}): VolumeSpec {
  return {
    imageId: IMAGE,
    format: 'raw',
    provisionedSize: 4 * MiB,
    initialSize: undefined,
    sparse: true,
    ...fields,
  }
}

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

t.test('ids that are no file names are refused', async (t) => {
  const { path, volumes } = domain(t)
  for (const imageId of ['', '.', '..', '../x', 'a/b', '.x', 'a\0', 'a b', 'x'.repeat(65), 'ä']) {
    await t.rejects(volumes.create(spec({ imageId })), TypeError)
    await t.rejects(volumes.remove({ imageId }, KEEP), TypeError)
    await t.rejects(volumes.facts({ imageId }), TypeError)
    t.throws(() => volumes.path({ imageId }), TypeError)
  }
  for (const imageId of ['123', 'a..b', 'A_-.', 'x'.repeat(64)]) {
    await volumes.create(spec({ imageId }))
    t.ok(existsSync(join(path, imageId)))
  }
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

t.test('links that lie in the directory are not followed', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  const outside = join(domain(t).path, 'precious')
  await writeFile(outside, 'data')
  await symlink(outside, join(path, IMAGE))
  await t.rejects(volumes.create(spec()), { message: /The image exists/ })
  await t.rejects(volumes.facts({ imageId: IMAGE }), /no regular file/)
  await symlink(outside, join(path, `.${IMAGE}.0123456789abcdef.new`))
  await volumes.remove({ imageId: IMAGE }, { wipe: true })
  t.same(await readdir(path), [])
  t.equal(await readFile(outside, 'utf8'), 'data')
})

t.test('a file that has another name is not used, and not overwritten', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  const outside = join(domain(t).path, 'precious')
  await writeFile(outside, 'data')
  await link(outside, join(path, IMAGE))
  await t.rejects(volumes.facts({ imageId: IMAGE }), /2 names: it is a hard link/)
  await t.rejects(volumes.grow(spec()), /2 names/)
  await volumes.remove({ imageId: IMAGE }, { wipe: true })
  t.same(await readdir(path), [])
  t.equal(await readFile(outside, 'utf8'), 'data')
})

t.test('the directory may itself be reached by a link', async (t) => {
  const { path } = domain(t)
  const name = join(domain(t).path, 'link')
  await symlink(path, name)
  await new DirectoryVolumes({ path: name }).create(spec())
  t.same(await readdir(path), [IMAGE])
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

t.test('a raw volume grows, allocated or not, and may be as large already', async (t) => {
  const { path, volumes } = domain(t)
  for (const [imageId, sparse] of [
    [IMAGE, true],
    ['allocated', false],
  ] as const) {
    await volumes.create(spec({ imageId, sparse, provisionedSize: MiB }))
    const data = randomBytes(MiB)
    await writeFile(join(path, imageId), data)
    const grown = spec({ imageId, sparse, provisionedSize: 2 * MiB + 1 })
    const { length, actualSize } = await volumes.grow(grown)
    t.equal(length, 2 * MiB + 512, 'whole sectors')
    t.equal(actualSize >= 2 * MiB, !sparse)
    const bytes = await readFile(join(path, imageId))
    t.ok(bytes.subarray(0, MiB).equals(data))
    t.ok(bytes.subarray(MiB).every((byte) => byte === 0))
    t.equal((await volumes.grow(grown)).length, length)
    t.equal((await volumes.grow(spec({ imageId, sparse, provisionedSize: 512 }))).length, length)
  }
})

t.test('an allocated volume is at no time longer than what is allocated', async (t) => {
  const { path, volumes } = domain(t)
  await volumes.create(spec({ sparse: false, provisionedSize: MiB }))
  const file = await open(join(path, IMAGE), 'r+')
  t.teardown(() => file.close())
  // A crash may come after any call: none makes it longer without allocating.
  file.truncate = () => Promise.reject(new Error('it would be longer, and have holes'))
  await growVolume(file, spec({ sparse: false, provisionedSize: 3 * MiB }), undefined)
  const { size, blocks } = await file.stat()
  t.equal(size, 3 * MiB)
  t.ok(blocks * 512 >= 3 * MiB)
})

t.test('a cow volume grows, and its image stays good', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  for (const sparse of [true, false]) {
    const imageId = `image-${sparse}`
    const volume = spec({ imageId, format: 'cow', sparse })
    await volumes.create(volume)
    const file = join(path, imageId)
    await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 64k', file])
    const provisionedSize = 8 * MiB
    await volumes.grow({ ...volume, provisionedSize })
    await volumes.grow({ ...volume, provisionedSize })
    const verdict = await verifyVolume({ path: file, format: 'cow', provisionedSize })
    t.match(verdict, { ok: true, virtualSize: provisionedSize })
    const reads = ['-c', 'read -P 7 1M 64k', '-c', 'read -P 0 4M 4M']
    t.notMatch(await run('qemu-io', ['-f', 'qcow2', ...reads, file]), 'failed')
    t.equal((await stat(file)).mode & 0o777, 0o660)
  }
  await writeFile(join(path, 'vmdk'), 'KDMV')
  await t.rejects(volumes.grow(spec({ imageId: 'vmdk', format: 'cow' })), /qcow2/)
})

t.test('a volume that has no room to grow stays as it was', { skip: asRoot }, async (t) => {
  const { path, volumes } = domain(t)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', path])
  t.teardown(() => run('umount', [path]))
  const volume = spec({ sparse: false, provisionedSize: MiB })
  await volumes.create(volume)
  const grown = { ...volume, provisionedSize: 16 * MiB }
  const refusal = { statusCode: 409, message: /Cannot grow Virtual Disk. Low disk space/ }
  await t.rejects(volumes.grow(grown), refusal)
  const optimist = new (class extends DirectoryVolumes {
    override space() {
      return Promise.resolve({ available: 1e15, used: 0 })
    }
  })({ path })
  await t.rejects(optimist.grow(grown), refusal)
  t.equal((await volumes.facts(volume)).length, MiB)
  await t.rejects(volumes.grow(spec({ imageId: 'none' })), {
    code: 'ENOENT',
    message: /lstat 'none'$/,
  })
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

t.test('removal takes the volume and what a crash has left of it', async (t) => {
  const { path, volumes } = domain(t)
  await volumes.create(spec())
  const others = ['other', `${IMAGE}.1`, `.${IMAGE}.x.0123456789abcdef.new`, `.${IMAGE}`]
  for (const name of others) await writeFile(join(path, name), 'data')
  for (const kind of ['new', 'old']) {
    await writeFile(join(path, `.${IMAGE}.0123456789abcdef.${kind}`), 'data')
  }
  await volumes.remove({ imageId: IMAGE }, KEEP)
  t.same((await readdir(path)).sort(), others.sort())
  await volumes.remove({ imageId: IMAGE }, KEEP)
  t.pass('again')
})

t.test('a volume is wiped before it is removed, on demand', async (t) => {
  for (const wipe of [true, false]) {
    const { volumes } = domain(t)
    await volumes.create(spec({ provisionedSize: 64 * MiB }))
    const file = await open(volumes.path({ imageId: IMAGE }), 'r+')
    t.teardown(() => file.close())
    for (const offset of [0, 20 * MiB + 5, 64 * MiB - 4096]) {
      await file.write(randomBytes(4096), 0, 4096, offset)
    }
    await file.sync()
    await volumes.remove({ imageId: IMAGE }, { wipe })
    const { size, blocks, nlink } = await file.stat()
    t.equal(nlink, 0, 'removed')
    t.equal(size, 64 * MiB)
    t.ok(blocks * 512 < MiB, 'holes stay holes')
    const rest = Buffer.alloc(64 * MiB)
    await file.read(rest, 0, rest.length, 0)
    t.equal(rest.equals(Buffer.alloc(rest.length)), wipe)
  }
})

t.test('a wipe that was stopped goes on', async (t) => {
  const { path, volumes } = domain(t)
  await volumes.create(spec())
  await writeFile(join(path, IMAGE), randomBytes(MiB))
  const signal = AbortSignal.abort()
  await t.rejects(volumes.remove({ imageId: IMAGE }, { wipe: true, signal }), /abort/)
  t.match(await readdir(path), [/^\.4f2a.*\.old$/], 'no volume any more')
  await volumes.remove({ imageId: IMAGE }, { wipe: true })
  t.same(await readdir(path), [])
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

t.test('files that are volumes, or were to be, are told', async (t) => {
  const { path, volumes } = domain(t)
  for (const imageId of ['one', 'two']) await volumes.create(spec({ imageId }))
  await writeFile(join(path, '.half.0123456789abcdef.new'), 'x')
  await mkdir(join(path, 'lost'))
  await writeFile(join(path, '.marker'), 'x')
  await symlink('one', join(path, 'link'))
  const found = await volumes.files()
  t.match(
    [...found].sort((a, b) => a.name.localeCompare(b.name)),
    [
      { name: '.half.0123456789abcdef.new', imageId: 'half', isUnfinished: true },
      { name: 'one', imageId: 'one', isUnfinished: false, actualSize: 0 },
      { name: 'two', imageId: 'two', isUnfinished: false },
    ],
  )
  t.equal(found.length, 3, 'and nothing else')
})

t.test('a directory without the marker of its domain is not touched', async (t) => {
  const { path } = domain(t)
  const volumes = new DirectoryVolumes({ path, domain: 'one' })
  t.equal(await volumes.claim(undefined), true)
  t.equal(await readFile(join(path, MARKER), 'utf8'), 'one\n')
  await volumes.create(spec())
  t.equal(await volumes.claim(undefined), true, 'again')

  // As it is when nothing is mounted.
  await rename(path, `${path}.away`)
  await mkdir(path)
  t.teardown(() => rmSync(`${path}.away`, { recursive: true, force: true }))
  const refusal = { statusCode: 409, message: /not active: .*as if it was not mounted/ }
  await t.rejects(volumes.create(spec({ imageId: 'other' })), refusal)
  await t.rejects(volumes.remove({ imageId: IMAGE }, KEEP), refusal)
  await t.rejects(volumes.grow(spec()), refusal)
  await t.rejects(volumes.facts({ imageId: IMAGE }), refusal)
  await t.rejects(volumes.files(), refusal)
  await t.rejects(volumes.space(), refusal)
  t.equal(await volumes.claim([{ imageId: IMAGE }]), false)
  t.same(await readdir(path), [])

  await writeFile(join(path, MARKER), 'two\n')
  await t.rejects(volumes.space(), { message: /that of another one, two/ })
  await t.rejects(volumes.claim(undefined), { message: /that of another one, two/ })
  rmSync(path, { recursive: true })
  await t.rejects(volumes.claim(undefined), { code: 'ENOENT' })
  await rename(`${path}.away`, path)
  t.equal((await volumes.facts({ imageId: IMAGE })).length, 4 * MiB)
  rmSync(join(path, MARKER))
  t.equal(await volumes.claim([{ imageId: 'none' }, { imageId: IMAGE }]), true, 'by its volumes')
  await volumes.facts({ imageId: IMAGE })
})

t.test('markers that are written at once are one marker', async (t) => {
  const { path } = domain(t)
  const all = Array.from({ length: 8 }, (_, n) =>
    new DirectoryVolumes({ path, domain: `d${n % 2}` }).claim(undefined),
  )
  const results = await Promise.allSettled(all)
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 4)
  t.same(await readdir(path), [MARKER])
})

t.test('a volume is emptied, and keeps its space when it is not sparse', { skip }, async (t) => {
  for (const sparse of [true, false]) {
    const { path, volumes } = domain(t)
    const volume = spec({ format: 'cow', provisionedSize: 10 * MiB, sparse })
    const before = await volumes.create(volume)
    await volumes.empty(volume)
    const after = await volumes.facts(volume)
    t.equal(after.length, 0)
    t.equal(after.actualSize > before.length / 2, !sparse)
    t.same(readdirSync(path), [IMAGE])
    await volumes.empty(volume)
  }
})

t.test('a directory that is exchanged meanwhile gets nothing', { skip }, async (t) => {
  const { path, volumes } = domain(t)
  const aside = `${path}.aside`
  t.teardown(() => rmSync(aside, { recursive: true, force: true }))
  const creation = volumes.create(spec({ format: 'cow' }))
  await until('it has begun', () => readdirSync(path).length > 0, { everyMs: 1 })
  await rename(path, aside)
  await mkdir(path)
  await creation
  t.same(readdirSync(path), [])
  t.ok(statSync(join(aside, IMAGE)).size > 0)
})
