/**
 * The L1 table of a qcow2 image or of a snapshot in it, its L2 tables, and the data they refer to: whether
 * all of that is in the file.
 */
import type { Qcow2Header } from './qcow2-header.js'
import type { TableLook } from './qcow2-look.js'

export interface Qcow2Map {
  /** In messages: 'the guest'. */
  readonly owner: string
  readonly l1TableOffset: bigint
  readonly l1Size: number
  readonly virtualSize: bigint
  /** Bytes of the machine's memory, which a snapshot has behind what the last L2 table of the disk covers. */
  readonly vmStateSize: bigint
}

const SECTOR = 512n
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n
const IS_COMPRESSED = 1n << 62n
/** From version 3 on: no extended entries. */
const READS_AS_ZEROES = 1n

/** What one L2 table covers begins at `start`; from `end` on nobody reads. */
interface Covered {
  readonly start: bigint
  readonly end: bigint
}

/** Throws ImageRefused where the file ends too early, OutOfTime. */
export async function checkMap(look: TableLook, header: Qcow2Header, map: Qcow2Map): Promise<void> {
  const { clusterSize, l2EntrySize } = header
  const l1 = await look.read(map.l1TableOffset, map.l1Size * 8, map.owner)
  const step = BigInt(clusterSize) * BigInt(clusterSize / l2EntrySize)
  const diskEnd = map.virtualSize - (map.virtualSize % SECTOR)
  const vmStateEnd = ((map.virtualSize + step - 1n) / step) * step + map.vmStateSize
  for (let index = 0; index < map.l1Size; index++) {
    const offset = l1.readBigUInt64BE(index * 8) & OFFSET_MASK
    if (offset === 0n) continue
    const start = BigInt(index) * step
    const end = start < diskEnd ? diskEnd : vmStateEnd
    // Snapshots share most of their tables.
    const isWhole = start + step <= end
    if (isWhole && (await look.isKnown(offset))) continue
    const table = await look.read(offset, clusterSize, map.owner)
    look.checkInside(lastByte(table, { start, end }, header), map.owner)
    if (isWhole) look.setKnown(offset)
  }
}

/** Where in the file the data ends that a table refers to. */
function lastByte(table: Buffer, { start, end }: Covered, header: Qcow2Header): bigint {
  const { clusterSize, l2EntrySize } = header
  let last = 0n
  for (let at = 0; at < table.length; at += l2EntrySize) {
    // Most of a table may be empty.
    if (table.readUInt32BE(at) === 0 && table.readUInt32BE(at + 4) === 0) continue
    const left = end - start - BigInt((at / l2EntrySize) * clusterSize)
    if (left <= 0n) break
    const dataEnd = endOfEntry(table, at, left, header)
    if (dataEnd > last) last = dataEnd
  }
  return last
}

/** `left`: so many bytes are read from the beginning of its cluster on. */
function endOfEntry(table: Buffer, at: number, left: bigint, header: Qcow2Header): bigint {
  const entry = table.readBigUInt64BE(at)
  if ((entry & IS_COMPRESSED) !== 0n) return endOfCompressed(entry, header.clusterSize)
  const offset = entry & OFFSET_MASK
  const size = offset === 0n ? 0n : sizeOfData(table, at, entry, header)
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

/**
 * The offset has any bits, and above them is the number of further sectors. The data end anywhere in
 * the last one, and so may the file.
 */
function endOfCompressed(entry: bigint, clusterSize: number): bigint {
  const offsetBits = 62n - BigInt(Math.log2(clusterSize) - 8)
  const offset = entry & ((1n << offsetBits) - 1n)
  const sectors = (entry & (IS_COMPRESSED - 1n)) >> offsetBits
  return (sectors === 0n ? offset : (offset / SECTOR + sectors) * SECTOR) + 1n
}
