/** Volumes that grow, and keep what is in them, also when there is no room. */
import { randomBytes } from 'node:crypto'
import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { DirectoryVolumes } from '../../../transfers/volumes/directory-volumes.js'
import { growVolume } from '../../../transfers/volumes/grow-volume.js'
import { verifyVolume } from '../../../transfers/verify/verify.js'
import { run, without } from '../../support/tools.js'
import { IMAGE, domain, spec } from './domain.js'

const skip = without('qemu-img')
const asRoot = process.getuid?.() === 0 ? false : 'needs root'

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
