import { copyFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { isCut } from '../../start/cut-image.js'
import { run, without } from '../support/tools.js'

const skip = without('qemu-img', 'qemu-io')
const CLUSTER = 65_536
const MiB = 1024 * 1024

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
    t.notOk(await isCut(path, 'qcow2'), 'new')
    const writes = ['write 0 9M', 'write -z 9M 1M', 'discard 1M 1M', 'write 39M 100k']
    await run('qemu-io', ['-f', 'qcow2', ...writes.flatMap((one) => ['-c', one]), path])
    t.notOk(await isCut(path, 'qcow2'), 'written')
    const { size } = statSync(path)
    for (const left of [100_000, 1_000_000, size - 2 * CLUSTER]) {
      copyFileSync(path, cut)
      truncateSync(cut, left)
      t.ok(await isCut(cut, 'qcow2'), `${left} of ${size}`)
    }
  })
}

t.test('compressed clusters end anywhere', { skip }, async (t) => {
  const dir = t.testdir()
  const [raw, path] = [join(dir, 'raw'), join(dir, 'a.qcow2')]
  writeFileSync(raw, Buffer.alloc(3_000_000, 'text '))
  await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, path])
  t.notOk(await isCut(path, 'qcow2'))
})

t.test('of what is no qcow2 nothing is said', async (t) => {
  const path = join(t.testdir({ file: 'QED' }), 'file')
  t.notOk(await isCut(path, 'qcow2'))
  await t.rejects(isCut(`${path}s`, 'qcow2'), { code: 'ENOENT' })
})

for (const [format, ...options] of [
  ['vdi'],
  ['vdi', 'static=on'],
  ['vmdk'],
  ['vmdk', 'subformat=streamOptimized'],
] as const) {
  t.test(`${format} ${options.join()} of odd size`.replace('  ', ' '), { skip }, async (t) => {
    const dir = t.testdir()
    const [raw, path, cut] = ['raw', 'image', 'cut'].map((name) => join(dir, name))
    await run('qemu-img', ['create', '-q', '-f', 'raw', raw!, '12345856'])
    const writes = ['write 0 3M', 'write 8M 512', 'write 12000000 345856']
    await run('qemu-io', ['-f', 'raw', ...writes.flatMap((one) => ['-c', one]), raw!])
    const wishes = options.flatMap((option) => ['-o', option])
    await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...wishes, raw!, path!])
    t.notOk(await isCut(path!, format), 'whole')
    if (options.join().includes('stream')) return // nothing tells
    copyFileSync(path!, cut!)
    truncateSync(cut!, statSync(path!).size - MiB)
    t.ok(await isCut(cut!, format), 'cut')
  })
}
