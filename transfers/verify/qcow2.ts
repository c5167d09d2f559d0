/**
 * The header of a qcow2 image that somebody uploaded, read here before qemu opens it: some versions
 * of qemu open the external data file that a header names even to tell what is in the header, and
 * every version sizes its tables by what the header says.
 *
 * What is refused makes qemu read or write anything but this one file, needs a secret, or is larger
 * than any image can need. Whether it has its end is another question (qcow2-end.ts).
 */
import type { BitmapDirectory } from './qcow2-bitmaps.js'
import { checkExtensions } from './qcow2-extensions.js'
import { checkAligned, decodeHeader, type Qcow2Header } from './qcow2-header.js'
import type { Qcow2Map } from './qcow2-map.js'
import { checkDisjoint, type Region } from './qcow2-regions.js'
import { readSnapshots } from './qcow2-snapshots.js'
import { ImageRefused, type ImageFile } from './image-file.js'

/** The largest header there is, with everything that qemu knows. */
const HEADER_SIZE = 112
/** 32 MiB of L1 table and 8 MiB of reference count table, as in qemu: enough for 2 EiB. */
const MAX_L1_ENTRIES = (32 * 1024 * 1024) / 8
const MAX_REFCOUNT_TABLE = 8 * 1024 * 1024

/** What is found from the header on, without what it refers to in turn. */
export interface Qcow2Image {
  readonly header: Qcow2Header
  /** None or one; if a malformed header has more, qemu takes the last. */
  readonly bitmaps: readonly BitmapDirectory[]
  readonly snapshots: readonly Qcow2Map[]
}

/** Throws ImageRefused. */
export async function inspectQcow2(file: ImageFile): Promise<Qcow2Image> {
  const header = decodeHeader(await file.readUpTo(0n, HEADER_SIZE))
  checkIsWhole(header)
  const own = [
    { what: 'the header', offset: 0n, size: BigInt(header.clusterSize) },
    checkL1Table(file, header),
    checkRefcountTable(file, header),
  ]
  const bitmaps = await checkExtensions(file, header)
  const snapshots = await readSnapshots(file, header)
  checkDisjoint([...own, ...bitmaps, ...snapshots.tables])
  return { header, bitmaps, snapshots: snapshots.maps }
}

/** The image is this file, and can be read without a secret. */
function checkIsWhole(header: Qcow2Header): void {
  if (header.backingFileOffset !== 0n) throw new ImageRefused('the image has a backing file')
  if (header.hasDataFile) throw new ImageRefused('the image has an external data file')
  if (header.cryptMethod !== 0) throw new ImageRefused('the image is encrypted')
  if (header.isCorrupt) throw new ImageRefused('the image is marked as corrupt')
}

function checkL1Table(file: ImageFile, header: Qcow2Header): Region {
  const { clusterSize, l2EntrySize, virtualSize, l1Size, l1TableOffset } = header
  if (l1Size > MAX_L1_ENTRIES) throw new ImageRefused(`the L1 table has ${l1Size} entries`)
  const covered = BigInt(clusterSize) * BigInt(clusterSize / l2EntrySize)
  if (BigInt(l1Size) * covered < virtualSize) {
    throw new ImageRefused('the L1 table is too small for the virtual size')
  }
  const table = { what: 'the L1 table', offset: l1TableOffset, size: BigInt(l1Size) * 8n }
  checkAligned(header, table.offset, table.what)
  file.checkInside(table.offset, table.size, table.what)
  return table
}

function checkRefcountTable(file: ImageFile, header: Qcow2Header): Region {
  const { clusterSize, refcountTableOffset, refcountTableClusters } = header
  const size = refcountTableClusters * clusterSize
  if (size === 0 || size > MAX_REFCOUNT_TABLE) {
    throw new ImageRefused(`the reference count table has ${refcountTableClusters} clusters`)
  }
  if (refcountTableOffset === 0n) throw new ImageRefused('there is no reference count table')
  const what = 'the reference count table'
  checkAligned(header, refcountTableOffset, what)
  // The last cluster of a file need not be written to its end.
  const lastCluster = refcountTableOffset + BigInt(size - clusterSize)
  file.checkInside(lastCluster, 1n, what)
  return { what, offset: refcountTableOffset, size: BigInt(size) }
}
