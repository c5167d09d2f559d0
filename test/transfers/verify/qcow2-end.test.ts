import { randomBytes } from 'node:crypto'
import { copyFile, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { VERIFY_LIMITS } from '../../../transfers/verify/limited-child.js'
import { verifyVolume } from '../../../transfers/verify/verify.js'
import { run, without } from '../../support/tools.js'
import { CLUSTER, MiB, directory, patch, qcow2, refused, setBit, u64, verifyCow } from './images.js'

const skip = without('qemu-img', 'qemu-io', 'prlimit')
/** No multiple of a cluster. */
const SIZE = 8 * MiB + 3 * 512
const REFCOUNT_OFFSET = 48
const MISSING = /the end of the file is missing|the file ends before/

const KINDS: readonly (readonly string[])[] = [
  ['-o', 'compat=0.10'],
  ['-o', 'compat=1.1'],
  ['-o', 'cluster_size=512'],
  ['-o', 'cluster_size=2M'],
  ['-o', 'extended_l2=on'],
  ['-o', 'preallocation=metadata'],
  ['-o', 'preallocation=full'],
  ['-c'],
  ['-c', '-o', 'compression_type=zstd'],
  ['-c', '-o', 'extended_l2=on'],
]

/** Some data at both ends and in between. */
function sparse(): Buffer {
  const data = Buffer.alloc(SIZE)
  for (const at of [0, 3 * MiB, SIZE - 4096]) randomBytes(4096).copy(data, at)
  return data
}

/** Any that can be compressed. */
function textual(): Buffer {
  return Buffer.from(randomBytes(SIZE / 2).toString('hex'))
}

for (const kind of KINDS) {
  t.test(`an image is ok until its end is missing: ${kind.join(' ')}`, { skip }, async (t) => {
    const dir = directory(t)
    const [source, path, cut] = [join(dir, 'raw'), join(dir, 'whole'), join(dir, 'cut')]
    for (const data of [Buffer.alloc(SIZE), sparse(), textual(), randomBytes(SIZE)]) {
      await writeFile(source, data)
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...kind, source, path])
      t.match(await verifyCow(path, SIZE), { ok: true, warnings: [] })
    }
    for (const left of [SIZE / 2, 5 * MiB, 7 * MiB + 512]) {
      await copyFile(path, cut)
      await truncate(cut, left)
      refused(t, await verifyCow(cut, SIZE), MISSING)
    }
  })
}

t.test(
  'a last cluster that is not whole counts with what the guest has in it',
  { skip },
  async (t) => {
    const dir = directory(t)
    const [source, path] = [join(dir, 'raw'), join(dir, 'image')]
    await writeFile(source, randomBytes(SIZE))
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', source, path])
    const { size } = await stat(path)
    const end = size - CLUSTER + (SIZE % CLUSTER)
    await truncate(path, end)
    t.match(await verifyCow(path, SIZE), { ok: true, warnings: [] })
    await truncate(path, end - 512)
    refused(t, await verifyCow(path, SIZE), MISSING)
  },
)

t.test('of a compressed cluster no sector may be missing', { skip }, async (t) => {
  const dir = directory(t)
  const [source, path] = [join(dir, 'raw'), join(dir, 'image')]
  await writeFile(source, textual())
  await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', source, path])
  const { size } = await stat(path)
  t.not(size % CLUSTER, 0)
  await truncate(path, size - 512)
  refused(t, await verifyCow(path, SIZE), MISSING)
})

/** As a writer leaves it that counts a cluster and dies before it has data. */
async function countClusterBehindEnd(path: string): Promise<void> {
  const bytes = await readFile(path)
  const table = Number(bytes.readBigUInt64BE(REFCOUNT_OFFSET))
  const block = Number(bytes.readBigUInt64BE(table))
  await patch(path, block + 2 * 100, Buffer.from([0, 1]))
}

t.test('clusters that are only counted are no data', { skip }, async (t) => {
  const path = await qcow2(t)
  await run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 64k', path])
  const { size } = await stat(path)
  await countClusterBehindEnd(path)
  t.match(await verifyCow(path), { ok: true, warnings: [/nothing refers to/] })
  await truncate(path, size - CLUSTER)
  refused(t, await verifyCow(path), MISSING)
})

t.test('refcounts of an image that was not closed are not believed', { skip }, async (t) => {
  const path = await qcow2(t, { options: 'compat=1.1,lazy_refcounts=on' })
  await run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 1M', path])
  const bytes = await readFile(path)
  const table = Number(bytes.readBigUInt64BE(REFCOUNT_OFFSET))
  const block = Number(bytes.readBigUInt64BE(table))
  await patch(path, block + 2 * 8, Buffer.alloc(2 * 100))
  await setBit(path, 72, 0)
  t.match(await verifyCow(path), { ok: true, warnings: [/was not closed/] })
  await truncate(path, 12 * CLUSTER)
  refused(t, await verifyCow(path), MISSING)
})

t.test('refcounts at an impossible place are missing', { skip }, async (t) => {
  const path = await qcow2(t)
  const table = Number((await readFile(path)).readBigUInt64BE(REFCOUNT_OFFSET))
  await patch(path, table, u64(0xffff_ffff_ffff_0000n))
  refused(t, await verifyCow(path), MISSING)
})

t.test('a look that takes too long is a warning', { skip }, async (t) => {
  const dir = directory(t)
  const [source, path] = [join(dir, 'raw'), join(dir, 'image')]
  await writeFile(source, randomBytes(SIZE))
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', source, path])
  const volume = { path, format: 'cow', provisionedSize: SIZE } as const
  const limits = { ...VERIFY_LIMITS, mapMs: -1 }
  await truncate(path, (await stat(path)).size - 512)
  t.match(await verifyVolume(volume, limits), { ok: true, warnings: [/not found out in time/] })
  await truncate(path, 5 * MiB)
  refused(t, await verifyVolume(volume, limits), MISSING)
})
