/**
 * Whether a qcow2 image has its end. An upload of half a file is one that qemu opens: where the guest's
 * data would be it reads zeroes, or tables of zeroes.
 *
 * The refcounts tell at once for all clusters but the last, which a file need not have to its end: of a
 * compressed one nothing is written behind its data, and a disk may end within a cluster. So where
 * a file has no whole clusters, and where refcounts may be wrong, all tables are read, one at a time.
 */
import { setImmediate } from 'node:timers/promises'
import { missingEnd } from '../../core/formats/qcow2-end.js'
import { ImageRefused, type ImageFile } from './image-file.js'
import type { Qcow2Header } from './qcow2-header.js'

const SECTOR = 512
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n
const IS_COMPRESSED = 1n << 62n
/** From version 3 on: no extended entries. */
const READS_AS_ZEROES = 1n

/** Warnings. Throws ImageRefused. */
export async function checkEnd(
  file: ImageFile,
  header: Qcow2Header,
  timeoutMs: number,
): Promise<string[]> {
  const missing = await missingEnd(file.handle)
  if (missing === 'refcounts') throw new ImageRefused('the end of the file is missing')
  const isInClusters = file.size % BigInt(header.clusterSize) === 0n
  if (missing === undefined && isInClusters && !header.isDirty) return []
  const isKnown = await checkMap(file, header, Date.now() + timeoutMs)
  if (missing === 'clusters') {
    // Those of snapshots were not looked at.
    if (!isKnown || header.snapshotCount > 0) throw cut()
    return ['clusters that nothing refers to are counted behind the end of the file']
  }
  return isKnown ? [] : ['whether the end of the file is there was not found out in time']
}

function cut(): ImageRefused {
  return new ImageRefused('the end of the file is missing, with data of the guest')
}

/** False if there was no time to look at all. Throws ImageRefused where the file ends too early. */
async function checkMap(file: ImageFile, header: Qcow2Header, deadline: number): Promise<boolean> {
  const { clusterSize, l2EntrySize, l1Size, l1TableOffset, virtualSize } = header
  const l1 = await file.read(l1TableOffset, l1Size * 8, 'the L1 table')
  const covered = BigInt(clusterSize) * BigInt(clusterSize / l2EntrySize)
  const end = fileEnd(file)
  for (let index = 0; index < l1Size; index++) {
    const start = BigInt(index) * covered
    if (start >= virtualSize) return true
    const offset = l1.readBigUInt64BE(index * 8) & OFFSET_MASK
    if (offset === 0n) continue
    if (offset + BigInt(clusterSize) > end) throw cut()
    if (Date.now() > deadline) return false
    const table = await file.read(offset, clusterSize, 'an L2 table')
    if (lastByte(table, start, header) > end) throw cut()
    await setImmediate() // others are served meanwhile, also when all is in the cache
  }
  return true
}

/** In whole sectors, as qemu reads. */
function fileEnd({ size }: ImageFile): bigint {
  return BigInt(SECTOR) * ((size + BigInt(SECTOR - 1)) / BigInt(SECTOR))
}

/** Where in the file the data ends that a table refers to. `start` is what it covers first. */
function lastByte(table: Buffer, start: bigint, header: Qcow2Header): bigint {
  const { clusterSize, l2EntrySize } = header
  let last = 0n
  for (let at = 0; at < table.length; at += l2EntrySize) {
    // Most of a table may be empty.
    if (table.readUInt32BE(at) === 0 && table.readUInt32BE(at + 4) === 0) continue
    const guest = start + BigInt((at / l2EntrySize) * clusterSize)
    const dataEnd = endOfEntry(table, at, guest, header)
    if (dataEnd > last) last = dataEnd
  }
  return last
}

function endOfEntry(table: Buffer, at: number, guest: bigint, header: Qcow2Header): bigint {
  const { clusterSize, virtualSize } = header
  const entry = table.readBigUInt64BE(at)
  if ((entry & IS_COMPRESSED) !== 0n) return endOfCompressed(entry, clusterSize)
  const offset = entry & OFFSET_MASK
  if (offset === 0n || guest >= virtualSize) return 0n
  const size = sizeOfData(table, at, entry, header)
  const left = virtualSize - guest
  return size === 0n ? 0n : offset + (size < left ? size : left)
}

/** From the beginning of the cluster to the end of what does not read as zeroes. */
function sizeOfData(table: Buffer, at: number, entry: bigint, header: Qcow2Header): bigint {
  const { version, clusterSize, l2EntrySize } = header
  if (l2EntrySize === 8) {
    const isZero = version >= 3 && (entry & READS_AS_ZEROES) !== 0n
    return isZero ? 0n : BigInt(clusterSize)
  }
  const allocated = table.readUInt32BE(at + 12)
  return BigInt((clusterSize / 32) * (32 - Math.clz32(allocated)))
}

/** The offset has any bits, and above them is the number of further sectors. */
function endOfCompressed(entry: bigint, clusterSize: number): bigint {
  const offsetBits = 62n - BigInt(Math.log2(clusterSize) - 8)
  const offset = entry & ((1n << offsetBits) - 1n)
  const sectors = (entry & (IS_COMPRESSED - 1n)) >> offsetBits
  return (offset / BigInt(SECTOR) + sectors + 1n) * BigInt(SECTOR)
}
