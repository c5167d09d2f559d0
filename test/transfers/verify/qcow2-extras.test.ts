/** What an image has besides the guest's data, where its end is: snapshots, bitmaps, reference counts. */
import { copyFile, open, readFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { ImageFile } from '../../../transfers/verify/image-file.js'
import { inspectQcow2 } from '../../../transfers/verify/qcow2.js'
import { checkEnd } from '../../../transfers/verify/qcow2-end.js'
import { run, without } from '../../support/tools.js'
import {
  CLUSTER,
  MiB,
  addBitmap,
  directory,
  io,
  patch,
  qcow2,
  refused,
  snapshot,
  u32,
  u64,
  verifyCow,
} from './images.js'

const skip = without('qemu-img', 'qemu-io', 'prlimit')
const SIZE = 8 * MiB
const REFCOUNT_OFFSET = 48
const SNAPSHOTS_OFFSET = 64
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n

t.test('a snapshot of a larger disk has its end', { skip }, async (t) => {
  const path = await qcow2(t, { size: SIZE })
  await io(path, 'write -P 1 0 1M', 'write -P 2 7M 1M')
  await snapshot(path, 'large')
  await run('qemu-img', ['resize', '-q', '--shrink', path, '1M'])
  // The disk ends in the first MiB of what the L2 table covers, the snapshot does not.
  const { l1 } = await snapshotTables(path)
  const l2 = await offsetAt(path, l1)
  const entry = l2 + (7 * MiB * 8) / CLUSTER
  await moveToEnd(path, { cluster: await offsetAt(path, entry), entry })
  t.match(await verifyCow(path, MiB), { ok: true, warnings: [] })
  for (const missing of [512, CLUSTER - 512]) {
    await truncateBy(path, missing)
    refused(t, await verifyCow(path, MiB), /missing, with data of a snapshot/)
  }
})

/** What an entry of a table refers to. */
async function offsetAt(path: string, entry: number): Promise<number> {
  return Number((await readFile(path)).readBigUInt64BE(entry) & OFFSET_MASK)
}

/** Of the first one. */
async function snapshotTables(path: string): Promise<{ l1: number; vmStateSize: bigint }> {
  const image = await readFile(path)
  const entry = Number(image.readBigUInt64BE(SNAPSHOTS_OFFSET))
  return {
    l1: Number(image.readBigUInt64BE(entry)),
    vmStateSize: image.readBigUInt64BE(entry + 40),
  }
}

async function truncateBy(path: string, size: number): Promise<void> {
  await truncate(path, (await stat(path)).size - size)
}

t.test(
  'the memory of a machine has its end',
  { skip: skip || without('qemu-system-x86_64') },
  async (t) => {
    const path = await qcow2(t, { size: SIZE })
    await io(path, 'write -P 1 0 1M')
    await saveMachine(path)
    t.match(await verifyCow(path, SIZE), { ok: true, warnings: [] })
    const { l1, vmStateSize } = await snapshotTables(path)
    t.ok(vmStateSize > 0n, 'has a state')
    const l2 = await offsetAt(path, l1 + 8)
    const first = await offsetAt(path, l2)
    await moveToEnd(path, { cluster: first, entry: l2 })
    t.match(await verifyCow(path, SIZE), { ok: true, warnings: [] })
    await truncateBy(path, 512)
    refused(t, await verifyCow(path, SIZE), /missing, with data of a snapshot/)
    await truncateBy(path, CLUSTER - 512)
    refused(t, await verifyCow(path, SIZE), /missing, with data of a snapshot/)
  },
)

async function saveMachine(path: string): Promise<void> {
  const drive = `file=${path},format=qcow2,if=none`
  const words = ['-nodefaults', '-m', '8', '-display', 'none', '-S', '-monitor', 'stdio']
  const command = `printf 'savevm one\\nquit\\n' | qemu-system-x86_64 "$@"`
  await run('sh', ['-c', command, 'sh', ...words, '-drive', drive])
}

/** A writer may have put it there: the image is good. */
async function moveToEnd(
  path: string,
  { cluster, entry }: { cluster: number; entry: number },
): Promise<number> {
  const image = await readFile(path)
  const end = Math.ceil(image.length / CLUSTER) * CLUSTER
  const data = Buffer.alloc(CLUSTER)
  image.copy(data, 0, cluster, cluster + CLUSTER)
  await patch(path, end, data)
  const flags = image.readBigUInt64BE(entry) & ~OFFSET_MASK
  await patch(path, entry, u64(BigInt(end) | flags))
  const block = await offsetAt(path, await offsetAt(path, REFCOUNT_OFFSET))
  await patch(path, block + (end / CLUSTER) * 2, Buffer.from([0, 1]))
  await patch(path, block + (cluster / CLUSTER) * 2, Buffer.from([0, 0]))
  await run('qemu-img', ['check', '-f', 'qcow2', path])
  return end
}

/** Where qemu-img put the directory of an image's bitmaps. */
async function bitmapDirectory(path: string): Promise<number> {
  const image = await readFile(path)
  return Number(image.readBigUInt64BE(image.indexOf(u32(0x23_85_28_75)) + 24))
}

t.test('bits of a bitmap behind all else are missed', { skip }, async (t) => {
  const path = await qcow2(t, { size: SIZE })
  await addBitmap(path, 'dirty', '65536')
  await io(path, 'write -P 7 0 4M')
  const table = await offsetAt(path, await bitmapDirectory(path))
  const end = await moveToEnd(path, { cluster: await offsetAt(path, table), entry: table })
  t.match(await verifyCow(path, SIZE), { ok: true, warnings: [] })
  for (const left of [end + CLUSTER / 2, end]) {
    await truncate(path, left)
    refused(t, await verifyCow(path, SIZE), /missing, with data of a bitmap/)
  }
})

t.test('a block of reference counts behind all else is missed', { skip }, async (t) => {
  const path = await qcow2(t, { size: SIZE })
  await io(path, 'write -P 7 0 64k')
  const table = await offsetAt(path, REFCOUNT_OFFSET)
  const block = await offsetAt(path, table)
  const end = await moveToEnd(path, { cluster: block, entry: table })
  // A second one, where the first was: it counts nothing, but is the last.
  await patch(path, block, Buffer.alloc(CLUSTER))
  await patch(path, end + (block / CLUSTER) * 2, Buffer.from([0, 1]))
  await patch(path, table + 8, u64(block))
  await run('qemu-img', ['check', '-f', 'qcow2', path])
  t.match(await verifyCow(path, SIZE), { ok: true, warnings: [/nothing refers to/] })
  await truncate(path, end + CLUSTER / 2)
  refused(t, await verifyCow(path, SIZE), /missing, with data of the reference counts/)
})

t.test('clusters that are only counted belong to no snapshot or bitmap', { skip }, async (t) => {
  const path = await qcow2(t, { size: SIZE })
  await io(path, 'write 0 64k')
  await snapshot(path, 'one')
  await addBitmap(path, 'dirty')
  const block = await offsetAt(path, await offsetAt(path, REFCOUNT_OFFSET))
  await patch(path, block + 2 * 100, Buffer.from([0, 1]))
  t.match(await verifyCow(path, SIZE), { ok: true, warnings: [/nothing refers to/] })
})

t.test('bitmaps that no honest program writes are refused', { skip }, async (t) => {
  const end = async (path: string): Promise<string[]> => {
    const file = await open(path)
    try {
      const image = new ImageFile(file, (await file.stat({ bigint: true })).size)
      return await checkEnd(image, await inspectQcow2(image), 60_000)
    } finally {
      await file.close()
    }
  }
  const whole = await qcow2(t, { size: SIZE })
  await addBitmap(whole, 'dirty')
  t.same(await end(whole), [])
  const at = await bitmapDirectory(whole)
  const table = await offsetAt(whole, at)
  const bad: [offset: number, bytes: Buffer, reason: RegExp][] = [
    [at, u64(2n ** 64n - BigInt(CLUSTER)), /missing, with data of a bitmap/],
    [at, u64(table + 512), /does not begin with a cluster/],
    [at + 8, u32(0xffff_ffff), /a bitmap has 4294967295 clusters/],
    [table, u64(0x00ff_ffff_ffff_fe00n), /missing, with data of a bitmap/],
  ]
  const path = join(directory(t), 'bad')
  for (const [offset, bytes, reason] of bad) {
    await copyFile(whole, path)
    await patch(path, offset, bytes)
    await t.rejects(end(path), { name: 'ImageRefused', message: reason })
  }
  await copyFile(whole, path)
  const count = (await readFile(path)).indexOf(u32(0x23_85_28_75)) + 8
  await patch(path, count, u32(2))
  await t.rejects(end(path), { name: 'ImageRefused', message: /has not all 2/ })
})
