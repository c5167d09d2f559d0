import { copyFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { isCutQcow2 } from '../../../core/formats/qcow2-end.js'
import { run, without } from '../../support/tools.js'

const skip = without('qemu-img', 'qemu-io')
const CLUSTER = 65_536

for (const options of [
  [],
  ['compat=0.10'],
  ['refcount_bits=1'],
  ['refcount_bits=64'],
  ['cluster_size=512'],
  ['preallocation=metadata'],
  ['preallocation=falloc'],
  ['extended_l2=on'],
]) {
  const title = `an image is whole until its end is missing ${options.join()}`.trimEnd()
  t.test(title, { skip }, async (t) => {
    const dir = t.testdir()
    const [path, cut] = [join(dir, 'a.qcow2'), join(dir, 'cut.qcow2')]
    const wishes = options.flatMap((option) => ['-o', option])
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...wishes, path, '40M'])
    t.notOk(await isCutQcow2(path), 'new')
    const writes = ['write 0 9M', 'write -z 9M 1M', 'discard 1M 1M', 'write 39M 100k']
    await run('qemu-io', ['-f', 'qcow2', ...writes.flatMap((one) => ['-c', one]), path])
    t.notOk(await isCutQcow2(path), 'written')
    const { size } = statSync(path)
    for (const left of [100_000, 1_000_000, size - 2 * CLUSTER]) {
      copyFileSync(path, cut)
      truncateSync(cut, left)
      t.ok(await isCutQcow2(cut), `${left} of ${size}`)
    }
  })
}

t.test('compressed clusters end anywhere', { skip }, async (t) => {
  const dir = t.testdir()
  const [raw, path] = [join(dir, 'raw'), join(dir, 'a.qcow2')]
  writeFileSync(raw, Buffer.alloc(3_000_000, 'text '))
  await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, path])
  t.notOk(await isCutQcow2(path))
})

t.test('of what is no qcow2 nothing is said', async (t) => {
  const path = join(t.testdir({ file: 'QED' }), 'file')
  t.notOk(await isCutQcow2(path))
  await t.rejects(isCutQcow2(`${path}s`), { code: 'ENOENT' })
})
