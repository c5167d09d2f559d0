/** Volumes that are removed, wiped before or not. */
import { randomBytes } from 'node:crypto'
import { open, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { IMAGE, domain, spec } from './domain.js'

const KEEP = { wipe: false }

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
