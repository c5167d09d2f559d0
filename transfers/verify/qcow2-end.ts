/**
 * Whether a qcow2 image has its end. An upload of half a file is one that qemu opens: where the guest's
 * data would be it reads zeroes, or tables of zeroes, and bitmaps of changes as if nothing had changed.
 *
 * The refcounts tell at once for all clusters but the last, which a file need not have to its end: of a
 * compressed one nothing is written behind its data, and a disk may end within a cluster. So where
 * a file has no whole clusters, and where refcounts may be wrong, all tables are read, one at a time.
 */
import { missingEnd } from '../../core/formats/qcow2-end.js'
import { ImageRefused, type ImageFile } from './image-file.js'
import { checkBitmaps } from './qcow2-bitmaps.js'
import type { Qcow2Header } from './qcow2-header.js'
import { OutOfTime, TableLook } from './qcow2-look.js'
import { checkMap } from './qcow2-map.js'
import type { Qcow2Image } from './qcow2.js'

/** Bits of an entry of the refcount table that are the block's offset. */
const REFCOUNT_BLOCK_MASK = ~0x1ffn

/** Warnings. Throws ImageRefused. */
export async function checkEnd(
  file: ImageFile,
  image: Qcow2Image,
  timeoutMs: number,
): Promise<string[]> {
  const { clusterSize, isDirty } = image.header
  const missing = await missingEnd(file.handle)
  if (missing === 'refcounts') throw new ImageRefused('the end of the file is missing')
  const isInClusters = file.size % BigInt(clusterSize) === 0n
  if (missing === undefined && isInClusters && !isDirty) return []
  const isKnown = await checkTables(new TableLook(file, timeoutMs), image)
  if (missing === 'clusters') {
    if (!isKnown) throw new ImageRefused('the end of the file is missing, with data in use')
    return ['clusters that nothing refers to are counted behind the end of the file']
  }
  return isKnown ? [] : ['whether the end of the file is there was not found out in time']
}

/** False if there was no time to look at all. Throws ImageRefused where the file ends too early. */
async function checkTables(look: TableLook, image: Qcow2Image): Promise<boolean> {
  const { header, bitmaps, snapshots } = image
  try {
    await checkRefcountBlocks(look, header)
    await checkMap(look, header, { owner: 'the guest', vmStateSize: 0n, ...header })
    for (const directory of bitmaps) await checkBitmaps(look, header, directory)
    for (const snapshot of snapshots) await checkMap(look, header, snapshot)
    return true
  } catch (error) {
    if (error instanceof OutOfTime) return false
    throw error
  }
}

/** A count that is missing reads as 0: qemu would write other data into a cluster that is in use. */
async function checkRefcountBlocks(look: TableLook, header: Qcow2Header): Promise<void> {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = header
  const owner = 'the reference counts'
  const table = await look.read(refcountTableOffset, refcountTableClusters * clusterSize, owner)
  for (let at = 0; at < table.length; at += 8) {
    const offset = table.readBigUInt64BE(at) & REFCOUNT_BLOCK_MASK
    if (offset !== 0n) look.checkInside(offset + BigInt(clusterSize), owner)
  }
}
