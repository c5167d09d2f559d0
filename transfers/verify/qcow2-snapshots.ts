/** The table of internal snapshots, whose entries have any length and name tables of their own. */
import { checkAligned, type Qcow2Header } from './qcow2-header.js'
import { ImageRefused, type ImageFile } from './image-file.js'

/** qemu takes 65,536, and tells all of them; how much it tells is limited. */
const MAX_SNAPSHOTS = 1024
const ENTRY_SIZE = 40
/** As in qemu. */
const MAX_EXTRA = 1024
const MAX_L1_ENTRIES = (32 * 1024 * 1024) / 8

/** Throws ImageRefused. */
export async function checkSnapshots(file: ImageFile, header: Qcow2Header): Promise<void> {
  const { snapshotCount, snapshotsOffset } = header
  if (snapshotCount === 0) return
  if (snapshotCount > MAX_SNAPSHOTS) {
    throw new ImageRefused(`the image has ${snapshotCount} internal snapshots`)
  }
  checkAligned(header, snapshotsOffset, 'the table of snapshots')
  let offset = snapshotsOffset
  for (let index = 0; index < snapshotCount; index++) {
    const entry = await file.read(offset, ENTRY_SIZE, 'the table of snapshots')
    const size = checkEntry(file, header, entry)
    file.checkInside(offset, BigInt(size), 'the table of snapshots')
    offset += BigInt(Math.ceil(size / 8) * 8)
  }
}

/** The size of the entry with its names. */
function checkEntry(file: ImageFile, header: Qcow2Header, entry: Buffer): number {
  const l1TableOffset = entry.readBigUInt64BE(0)
  const l1Size = entry.readUInt32BE(8)
  const extra = entry.readUInt32BE(36)
  if (l1Size > MAX_L1_ENTRIES || extra > MAX_EXTRA) {
    throw new ImageRefused('the table of snapshots is malformed')
  }
  checkAligned(header, l1TableOffset, 'the L1 table of a snapshot')
  file.checkInside(l1TableOffset, BigInt(l1Size) * 8n, 'the L1 table of a snapshot')
  return ENTRY_SIZE + extra + entry.readUInt16BE(12) + entry.readUInt16BE(14)
}
