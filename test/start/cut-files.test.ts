import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { KiB, MiB } from '../../core/units.js'
import { findCutFile } from '../../start/cut-files.js'
import type { GuestFormat } from '../../start/format.js'
import { readGuestData } from '../../start/guest-data.js'
import { without } from '../support/tools.js'

const skip = without('qemu-img', 'qemu-io')
const READ = { isWritable: false, bitmap: undefined }
/** No multiple of a cluster of any format. */
const SIZE = 8 * MiB + 3 * 512
const SMALL = 4 * KiB

interface Kind {
  readonly format: GuestFormat
  readonly options: string
  /** Whose end qemu itself misses. */
  readonly isChecked?: true
  /** Its further options, of what only convert makes. */
  readonly convertOnly?: readonly string[]
}

const KINDS: readonly Kind[] = [
  ...[
    'compat=0.10',
    'compat=1.1',
    'cluster_size=512',
    'cluster_size=2M',
    'extended_l2=on',
    'preallocation=metadata',
    'preallocation=falloc',
    'preallocation=full',
    'data_file=disk.data',
    'data_file=disk.data,data_file_raw=on',
  ].map((options) => ({ format: 'qcow2', options }) as const),
  { format: 'qcow2', options: 'compression_type=zlib', convertOnly: ['-c'] },
  { format: 'qcow2', options: 'compression_type=zstd', convertOnly: ['-c'] },
  { format: 'qcow', options: '' },
  ...['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'].map(
    (name) => ({ format: 'vmdk', options: `subformat=${name}` }) as const,
  ),
  { format: 'vmdk', options: 'subformat=streamOptimized', convertOnly: [] },
  { format: 'vdi', options: 'static=off' },
  { format: 'vdi', options: 'static=on' },
  { format: 'vpc', options: 'subformat=dynamic', isChecked: true },
  { format: 'vpc', options: 'subformat=fixed', isChecked: true },
  { format: 'vpc', options: 'subformat=fixed,force_size=on', isChecked: true },
  { format: 'vhdx', options: 'subformat=dynamic', isChecked: true },
  { format: 'vhdx', options: 'subformat=fixed', isChecked: true },
  { format: 'qed', options: '' },
  { format: 'parallels', options: '' },
]

/** In a directory of its own, where files beside the image are found. */
function imageIn(t: Test, { format, options, convertOnly }: Kind) {
  const cwd = t.testdir()
  const path = join(cwd, 'disk')
  const qemu = (program: string, ...args: string[]): void =>
    void execFileSync(program, args, { cwd, stdio: 'ignore' })
  const wishes = options === '' ? [] : ['-o', options]
  return {
    cwd,
    path,
    /** Empty, then written here and there. */
    create: (...writes: string[]): void => {
      qemu('qemu-img', 'create', '-f', format, ...wishes, 'disk', String(SIZE))
      for (const write of writes) qemu('qemu-io', '-f', format, '-c', write, 'disk')
    },
    convert: (data: Buffer): void => {
      writeFileSync(join(cwd, 'source'), data)
      const target = [...(convertOnly ?? []), '-f', 'raw', '-O', format, ...wishes]
      qemu('qemu-img', 'convert', ...target, 'source', 'disk')
    },
  }
}

for (const kind of KINDS) {
  const { format, options, isChecked, convertOnly } = kind
  t.test(`${format} is whole until its end is missing ${options}`, { skip }, async (t) => {
    const { cwd, path, create, convert } = imageIn(t, kind)
    if (!convertOnly) {
      create()
      await readGuestData(path, format, READ)
      create('write 0 4k', 'write 5000k 512')
      await readGuestData(path, format, READ)
      create(`write ${SIZE - 512} 512`)
      await readGuestData(path, format, READ)
    }
    const sparse = Buffer.alloc(SIZE)
    for (const at of [0, 3 * MiB, SIZE - SMALL]) randomBytes(SMALL).copy(sparse, at)
    convert(sparse)
    await readGuestData(path, format, READ)
    convert(randomBytes(SIZE))
    const { isUnsure } = await readGuestData(path, format, READ)
    t.notOk(isUnsure)
    for (const left of [7 * MiB, 5 * MiB]) {
      const big = readdirSync(cwd).find(
        (name) => name !== 'source' && statSync(join(cwd, name)).size > left,
      )
      truncateSync(join(cwd, big ?? ''), left)
      await t.rejects(readGuestData(path, format, READ), {
        name: 'StartError',
        message: isChecked
          ? /qemu cannot open it/
          : /(end .*is missing, with data of the guest|perhaps its end is missing); .*--raw serves/,
      })
    }
  })
}

t.test('the cut file is the one that holds the data', { skip }, async (t) => {
  const kind = { format: 'vmdk', options: 'subformat=monolithicFlat' } as const
  const { cwd, path, convert } = imageIn(t, kind)
  convert(randomBytes(SIZE))
  truncateSync(join(cwd, 'disk-flat'), 5 * MiB)
  const top = join(cwd, 'top.qcow2')
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', path, '-F', 'vmdk', top])
  await t.rejects(readGuestData(top, 'qcow2', READ), {
    message: `${top}: the end of ${join(cwd, 'disk-flat')} is missing`,
  })
})

t.test('a raw backing file may be smaller, and of any size', { skip }, async (t) => {
  const dir = t.testdir({ base: 'x'.repeat(1000) })
  const [base, top] = [join(dir, 'base'), join(dir, 'top.qed')]
  const args = ['create', '-q', '-f', 'qed', '-b', base, '-F', 'raw', top, '4M']
  execFileSync('qemu-img', args)
  t.match(await readGuestData(top, 'qed', READ), { size: 4 * MiB })
})

t.test('what takes too long is left, and told', { skip }, async (t) => {
  const { cwd, path, convert } = imageIn(t, { format: 'vdi', options: '' })
  convert(randomBytes(SIZE))
  const parts = [{ name: path, size: Infinity }]
  const layer = { name: path, format: 'vdi', subformat: '', clusterSize: MiB, parts }
  t.strictSame(await findCutFile([layer], { cwd }), {})
  t.strictSame(await findCutFile([layer], { cwd, timeoutMs: 0 }), { isUnsure: true })
})
