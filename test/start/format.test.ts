import { execFileSync } from 'node:child_process'
import { copyFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { chooseFormat, GUEST_FORMATS, type GuestFormat } from '../../start/format.js'
import { without } from '../support/tools.js'

const skip = without('qemu-img')

const NAMES: Record<GuestFormat, readonly string[]> = {
  qcow2: ['a.qcow2', 'a.QCOW2', 'b.qcow'],
  qcow: ['a.qcow'],
  vmdk: ['a.vmdk'],
  vhdx: ['a.vhdx'],
  vpc: ['a.vhd', 'a.vpc'],
  vdi: ['a.vdi'],
  qed: ['a.qed'],
  parallels: ['a.hdd'],
}

function create(path: string, format: string, ...options: string[]): string {
  execFileSync('qemu-img', ['create', '-q', '-f', format, ...options, path, '4M'])
  return path
}

const choose = (path: string) => chooseFormat(path, statSync(path).size)

t.test('a name and a header that agree are the format', { skip }, async (t) => {
  const dir = t.testdir()
  for (const format of GUEST_FORMATS) {
    for (const name of NAMES[format]) {
      t.strictSame(await choose(create(join(dir, name), format)), { format }, name)
    }
  }
})

t.test('every kind of vmdk and vhd is known', { skip }, async (t) => {
  const dir = t.testdir()
  for (const kind of ['monolithicFlat', 'streamOptimized', 'twoGbMaxExtentSparse']) {
    const path = create(join(dir, `${kind}.vmdk`), 'vmdk', '-o', `subformat=${kind}`)
    t.strictSame(await choose(path), { format: 'vmdk' }, kind)
  }
  // Its only sign is a footer.
  const fixed = create(join(dir, 'fixed.vhd'), 'vpc', '-o', 'subformat=fixed')
  t.strictSame(await choose(fixed), { format: 'vpc' })
})

t.test('a header in an image of another name is only told', { skip }, async (t) => {
  const dir = t.testdir()
  for (const header of GUEST_FORMATS) {
    const path = create(join(dir, header), header)
    for (const name of ['a.img', 'a.raw', 'a.iso', 'a']) {
      copyFileSync(path, join(dir, name))
      t.strictSame(await choose(join(dir, name)), { format: 'raw', header }, `${header} in ${name}`)
    }
  }
})

t.test('what has no header is raw, however short', async (t) => {
  const path = join(t.testdir(), 'a.img')
  for (const text of ['', 'Q', 'QFI', 'x'.repeat(1025)]) {
    writeFileSync(path, text)
    t.strictSame(await choose(path), { format: 'raw' }, text.slice(0, 5))
  }
  truncateSync(path, 2 ** 40)
  t.strictSame(await choose(path), { format: 'raw' })
})

t.test('a name and a header that contradict each other are an error', { skip }, async (t) => {
  const dir = t.testdir({ 'empty.vhdx': '' })
  const vmdk = create(join(dir, 'a.qcow2'), 'vmdk')
  await t.rejects(choose(vmdk), {
    name: 'StartError',
    message: `${vmdk}: the name says qcow2, but the file holds a vmdk header; --format vmdk serves the guest's data, --raw serves the file's own bytes`,
  })
  const empty = join(dir, 'empty.vhdx')
  await t.rejects(choose(empty), {
    message: `${empty}: the name says vhdx, but the file holds no vhdx header; --raw serves the file's own bytes`,
  })
})
