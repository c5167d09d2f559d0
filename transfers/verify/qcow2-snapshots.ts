/** The table of internal snapshots, whose entries have any length and name tables of their own. */
import { checkAligned, type Qcow2Header } from './qcow2-header.js'
import { ImageRefused, type ImageFile } from './image-file.js'
import type { Qcow2Map } from './qcow2-map.js'
import type { Region } from './qcow2-regions.js'

/** qemu takes 65,536, and tells all of them; how much it tells is limited. */
const MAX_SNAPSHOTS = 1024
const ENTRY_SIZE = 40
/** What is used of it: the size of the machine's state, and of the disk. */
const EXTRA_SIZE = 16
/** As in qemu. */
const MAX_EXTRA = 1024
const MAX_L1_ENTRIES = (32 * 1024 * 1024) / 8

export interface Snapshots {
  readonly maps: readonly Qcow2Map[]
  /** The table, and those of the snapshots. */
  readonly tables: readonly Region[]
}

/** Throws ImageRefused. */
export async function readSnapshots(file: ImageFile, header: Qcow2Header): Promise<Snapshots> {
  const { snapshotCount, snapshotsOffset } = header
  if (snapshotCount === 0) return { maps: [], tables: [] }
  if (snapshotCount > MAX_SNAPSHOTS) {
    throw new ImageRefused(`the image has ${snapshotCount} internal snapshots`)
  }
  checkAligned(header, snapshotsOffset, 'the table of snapshots')
  const what = 'the table of snapshots'
  const maps: Qcow2Map[] = []
  const tables: Region[] = []
  let offset = snapshotsOffset
  for (let index = 0; index < snapshotCount; index++) {
    const entry = await file.read(offset, ENTRY_SIZE, what)
    tables.push(checkL1Table(file, header, entry))
    const size = entrySize(entry)
    file.checkInside(offset, BigInt(size), what)
    const extraSize = Math.min(entry.readUInt32BE(36), EXTRA_SIZE)
    const extra = await file.read(offset + BigInt(ENTRY_SIZE), extraSize, what)
    maps.push(decodeMap(header, entry, extra))
    offset += BigInt(Math.ceil(size / 8) * 8)
  }
  tables.push({ what, offset: snapshotsOffset, size: offset - snapshotsOffset })
  return { maps, tables }
}

function checkL1Table(file: ImageFile, header: Qcow2Header, entry: Buffer): Region {
  const l1Size = entry.readUInt32BE(8)
  if (l1Size > MAX_L1_ENTRIES) throw new ImageRefused('the table of snapshots is malformed')
  const what = 'the L1 table of a snapshot'
  const table = { what, offset: entry.readBigUInt64BE(0), size: BigInt(l1Size) * 8n }
  checkAligned(header, table.offset, what)
  file.checkInside(table.offset, table.size, what)
  return table
}

/** With its names. */
function entrySize(entry: Buffer): number {
  const extra = entry.readUInt32BE(36)
  if (extra > MAX_EXTRA) throw new ImageRefused('the table of snapshots is malformed')
  return ENTRY_SIZE + extra + entry.readUInt16BE(12) + entry.readUInt16BE(14)
}

/** Old versions of qemu wrote no extra data. */
function decodeMap(header: Qcow2Header, entry: Buffer, extra: Buffer): Qcow2Map {
  return {
    owner: 'a snapshot',
    l1TableOffset: entry.readBigUInt64BE(0),
    l1Size: entry.readUInt32BE(8),
    vmStateSize: extra.length >= 8 ? extra.readBigUInt64BE(0) : BigInt(entry.readUInt32BE(32)),
    virtualSize: extra.length >= EXTRA_SIZE ? extra.readBigUInt64BE(8) : header.virtualSize,
  }
}
