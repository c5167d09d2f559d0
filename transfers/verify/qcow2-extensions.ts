/** Header extensions of qcow2: a list between the header and the end of the first cluster. */
import { checkAligned, type Qcow2Header } from './qcow2-header.js'
import { ImageRefused, type ImageFile } from './image-file.js'
import type { Region } from './qcow2-regions.js'

const END = 0
const DATA_FILE_NAME = 0x44_41_54_41
const FULL_DISK_ENCRYPTION = 0x05_37_be_77
const BITMAPS = 0x23_85_28_75
const BITMAPS_LENGTH = 24
/** A backup tool keeps a handful; qemu tells all of them, and how much it tells is limited. */
const MAX_BITMAPS = 1024
const MAX_BITMAP_DIRECTORY = 64 * 1024 * 1024

/** The tables that they name. Throws ImageRefused. */
export async function checkExtensions(file: ImageFile, header: Qcow2Header): Promise<Region[]> {
  const { clusterSize, headerLength } = header
  const cluster = await file.readUpTo(0n, clusterSize)
  const tables: Region[] = []
  let offset = headerLength
  // Where a list fills the cluster it needs no end; where the file ends, qemu reads zeroes: an end.
  while (offset + 8 <= cluster.length) {
    const type = cluster.readUInt32BE(offset)
    if (type === END) return tables
    const length = cluster.readUInt32BE(offset + 4)
    const start = offset + 8
    if (length > clusterSize - start) {
      throw new ImageRefused(`a header extension has ${length} bytes`)
    }
    if (start + length > cluster.length) {
      throw new ImageRefused('the file ends inside a header extension')
    }
    tables.push(...checkExtension(file, header, type, cluster.subarray(start, start + length)))
    offset = start + Math.ceil(length / 8) * 8
  }
  return tables
}

/** Those nobody knows are permitted by the format, and do nothing. */
function checkExtension(
  file: ImageFile,
  header: Qcow2Header,
  type: number,
  data: Buffer,
): Region[] {
  if (type === DATA_FILE_NAME) throw new ImageRefused('the image names an external data file')
  if (type === FULL_DISK_ENCRYPTION) throw new ImageRefused('the image is encrypted')
  return type === BITMAPS && header.hasBitmaps ? [checkBitmaps(file, header, data)] : []
}

function checkBitmaps(file: ImageFile, header: Qcow2Header, data: Buffer): Region {
  if (data.length !== BITMAPS_LENGTH) throw new ImageRefused('the header of bitmaps is malformed')
  const count = data.readUInt32BE(0)
  const size = data.readBigUInt64BE(8)
  const offset = data.readBigUInt64BE(16)
  if (count > MAX_BITMAPS || size > MAX_BITMAP_DIRECTORY) {
    throw new ImageRefused(`the image has ${count} bitmaps in a directory of ${size} bytes`)
  }
  const directory = { what: 'the directory of bitmaps', offset, size }
  checkAligned(header, offset, directory.what)
  file.checkInside(offset, size, directory.what)
  return directory
}
