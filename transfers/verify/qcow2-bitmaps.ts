/** Persistent dirty bitmaps in a qcow2 image: a directory, for each a table, and clusters with its bits. */
import { ImageRefused, type ImageFile } from './image-file.js'
import { checkAligned, type Qcow2Header } from './qcow2-header.js'
import type { TableLook } from './qcow2-look.js'
import type { Region } from './qcow2-regions.js'

/** What the header says of them. */
export interface BitmapDirectory extends Region {
  readonly count: number
}

const EXTENSION_SIZE = 24
/** A backup tool keeps a handful; qemu tells all of them, and how much it tells is limited. */
const MAX_BITMAPS = 1024
const MAX_DIRECTORY = 64 * 1024 * 1024
/** Before extra data and name. */
const ENTRY_SIZE = 24
/** As in qemu. */
const MAX_BITMAP_SIZE = 512 * 1024 * 1024
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n
const OWNER = 'a bitmap'

/** `extension` is the one of the header. Throws ImageRefused. */
export function decodeDirectory(
  file: ImageFile,
  header: Qcow2Header,
  extension: Buffer,
): BitmapDirectory {
  if (extension.length !== EXTENSION_SIZE) {
    throw new ImageRefused('the header of bitmaps is malformed')
  }
  const count = extension.readUInt32BE(0)
  const size = extension.readBigUInt64BE(8)
  const offset = extension.readBigUInt64BE(16)
  if (count > MAX_BITMAPS || size > MAX_DIRECTORY) {
    throw new ImageRefused(`the image has ${count} bitmaps in a directory of ${size} bytes`)
  }
  const directory = { what: 'the directory of bitmaps', count, offset, size }
  checkAligned(header, offset, directory.what)
  file.checkInside(offset, size, directory.what)
  return directory
}

/**
 * Also of bitmaps that are in use, whose bits qemu does not read: it frees their clusters.
 * Throws ImageRefused where the file ends too early, OutOfTime.
 */
export async function checkBitmaps(
  look: TableLook,
  header: Qcow2Header,
  { count, offset, size }: BitmapDirectory,
): Promise<void> {
  const end = offset + size
  let position = offset
  for (let index = 0; index < count; index++) {
    if (position + BigInt(ENTRY_SIZE) > end) {
      throw new ImageRefused(`the directory of bitmaps has not all ${count} of them`)
    }
    const entry = await look.read(position, ENTRY_SIZE, OWNER)
    await checkTable(look, header, entry)
    const entrySize = ENTRY_SIZE + entry.readUInt16BE(18) + entry.readUInt32BE(20)
    position += BigInt(Math.ceil(entrySize / 8) * 8)
  }
}

async function checkTable(look: TableLook, header: Qcow2Header, entry: Buffer): Promise<void> {
  const { clusterSize } = header
  const offset = entry.readBigUInt64BE(0)
  const clusters = entry.readUInt32BE(8)
  if (clusters * clusterSize > MAX_BITMAP_SIZE) {
    throw new ImageRefused(`a bitmap has ${clusters} clusters`)
  }
  checkAligned(header, offset, 'the table of a bitmap')
  const table = await look.read(offset, clusters * 8, OWNER)
  let last = 0n
  for (let at = 0; at < table.length; at += 8) {
    const cluster = table.readBigUInt64BE(at) & OFFSET_MASK
    if (cluster > last) last = cluster
  }
  // Without an offset all bits of a cluster are the same.
  if (last > 0n) look.checkInside(last + BigInt(clusterSize), OWNER)
}
