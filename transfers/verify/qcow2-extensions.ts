/** Header extensions of qcow2: a list between the header and the end of the first cluster. */
import { decodeDirectory, type BitmapDirectory } from './qcow2-bitmaps.js'
import type { Qcow2Header } from './qcow2-header.js'
import { ImageRefused, type ImageFile } from './image-file.js'

const END = 0
const DATA_FILE_NAME = 0x44_41_54_41
const FULL_DISK_ENCRYPTION = 0x05_37_be_77
const BITMAPS = 0x23_85_28_75

/** The tables that they name, which are of bitmaps. Throws ImageRefused. */
export async function checkExtensions(
  file: ImageFile,
  header: Qcow2Header,
): Promise<BitmapDirectory[]> {
  const { clusterSize, headerLength } = header
  const cluster = await file.readUpTo(0n, clusterSize)
  const tables: BitmapDirectory[] = []
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
): BitmapDirectory[] {
  if (type === DATA_FILE_NAME) throw new ImageRefused('the image names an external data file')
  if (type === FULL_DISK_ENCRYPTION) throw new ImageRefused('the image is encrypted')
  return type === BITMAPS && header.hasBitmaps ? [decodeDirectory(file, header, data)] : []
}
