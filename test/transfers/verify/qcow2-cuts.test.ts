/** Whatever qemu reads from a qcow2 image is the same, or the image is refused, wherever it was cut. */
import { copyFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { qemuNbd } from '../../support/nbd.js'
import { run, sha256, without } from '../../support/tools.js'
import { CLUSTER, MiB, addBitmap, directory, io, qcow2, snapshot, verifyCow } from './images.js'

const skip = without('qemu-img', 'qemu-io', 'qemu-nbd', 'prlimit')
const SIZE = 8 * MiB

async function readThrough(t: Test, path: string, name?: string): Promise<string> {
  const raw = join(directory(t), 'raw')
  const from = name === undefined ? [] : ['-l', name]
  await run('qemu-img', ['convert', '-f', 'qcow2', ...from, '-O', 'raw', path, raw])
  return sha256(raw)
}

async function dirtyExtents(t: Test, path: string, name: string): Promise<string> {
  const server = await qemuNbd(t, ['-r', '-f', 'qcow2', '-B', name, path])
  const nbd = `driver=nbd,server.type=unix,server.path=${server.socket}`
  const context = `x-dirty-bitmap=qemu:dirty-bitmap:${name}`
  const extents = await run('qemu-img', [
    'map',
    '--output=json',
    '--image-opts',
    `${nbd},${context}`,
  ])
  await server.stop()
  return extents
}

/** What is in an image, as qemu tells it; or why it does not. */
async function contents(t: Test, path: string, extras: Extras): Promise<string[]> {
  const { snapshots = [], bitmaps = [] } = extras
  try {
    const all = [await readThrough(t, path)]
    for (const name of snapshots) all.push(await readThrough(t, path, name))
    for (const name of bitmaps) all.push(await dirtyExtents(t, path, name))
    return all
  } catch (error) {
    return [String(error)]
  }
}

interface Extras {
  readonly snapshots?: readonly string[]
  readonly bitmaps?: readonly string[]
}

/** Where the last clusters begin, and in them. */
function cuts(size: number, clusterSize: number): number[] {
  const last = Math.floor((size - 1) / clusterSize) * clusterSize
  const starts = [last, last - clusterSize]
  const all = starts.flatMap((at) => [at, at + 512, at + clusterSize / 2])
  return [size - 1, size - 512, ...all].filter((at) => at < size && at > clusterSize)
}

/** Uncut it is ok; cut it is refused, or nothing of it is lost. */
async function checkCuts(t: Test, path: string, extras: Extras, size = CLUSTER): Promise<void> {
  t.match(await verifyCow(path, SIZE), { ok: true, warnings: [] })
  const cut = join(directory(t), 'cut')
  const whole = await contents(t, path, extras)
  t.notMatch(whole, [/Error/])
  for (const at of cuts((await stat(path)).size, size)) {
    await copyFile(path, cut)
    await truncate(cut, at)
    const result = await verifyCow(cut, SIZE)
    if (result.ok) t.same(await contents(t, cut, extras), whole, `cut at ${at}`)
    else t.match(result.reason, /the end of the file is missing|the file ends|qemu-img/)
  }
}

const KINDS = [
  { options: 'compat=0.10' },
  { options: 'compat=1.1' },
  { options: 'cluster_size=512', clusterSize: 512 },
  { options: 'cluster_size=2M', clusterSize: 2 * MiB },
  { options: 'extended_l2=on' },
]

for (const { options, clusterSize = CLUSTER } of KINDS) {
  t.test(`snapshots have their end: ${options}`, { skip }, async (t) => {
    const path = await qcow2(t, { options, size: SIZE })
    await io(path, 'write -P 1 0 1M', 'write -P 2 6M 1M', 'discard 0 1M')
    await snapshot(path, 'one')
    await io(path, 'discard 6M 1M')
    await checkCuts(t, path, { snapshots: ['one'] }, clusterSize)
  })
  if (options === 'compat=0.10') continue
  t.test(`bitmaps have their end: ${options}`, { skip }, async (t) => {
    const path = await qcow2(t, { options, size: SIZE })
    await addBitmap(path, 'empty')
    await checkCuts(t, path, { bitmaps: ['empty'] }, clusterSize)
    await addBitmap(path, 'dirty')
    await io(path, 'write -P 1 0 1M', 'write -P 2 6M 1k')
    await run('qemu-img', ['bitmap', '--disable', path, 'empty'])
    await io(path, 'write -P 1 1M 1M')
    await checkCuts(t, path, { bitmaps: ['dirty'] }, clusterSize)
  })
}
