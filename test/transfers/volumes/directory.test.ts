/** The directory of a domain: names and links in it, its marker, and when it is exchanged. */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { link, mkdir, readFile, readdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { DirectoryVolumes } from '../../../transfers/volumes/directory-volumes.js'
import { MARKER } from '../../../transfers/volumes/domain-marker.js'
import { without } from '../../support/tools.js'
import { until } from '../../support/wait.js'
import { IMAGE, domain, spec } from './domain.js'

const KEEP = { wipe: false }
const skip = without('qemu-img')

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
  await t.rejects(volumes.flush({ imageId: IMAGE }), /2 names/)
  await volumes.remove({ imageId: IMAGE }, { wipe: true })
  t.same(await readdir(path), [])
  t.equal(await readFile(outside, 'utf8'), 'data')
})

t.test('the directory may itself be reached by a link', async (t) => {
  const { path } = domain(t)
  const name = join(domain(t).path, 'link')
  await symlink(path, name)
  const volumes = new DirectoryVolumes({ path: name })
  await volumes.create(spec())
  t.same(await readdir(path), [IMAGE])
  await volumes.flush({ imageId: IMAGE })
  await t.rejects(volumes.flush({ imageId: 'none' }), { code: 'ENOENT' })
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
