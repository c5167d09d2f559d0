/** Whether a qcow2 file has all of itself: qemu opens one that was cut, and reads zeroes where data is missing. */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

/** What lies behind the end: refcounts, or clusters that they say are in use. */
export type MissingEnd = 'refcounts' | 'clusters'

/** What is read of the header: all fields of version 3. */
const HEADER_SIZE = 104
/** Of 16 EiB in the smallest clusters, more or less; a header may claim anything. */
const MAX_TABLE_SIZE = 64 * 1024 * 1024
/** Bits of an entry of the refcount table that are the block's offset. */
const OFFSET_MASK = ~0x1ffn

/** As missingEnd, of a file with this name. */
export async function isCutQcow2(path: string): Promise<boolean> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    return (await missingEnd(file)) !== undefined
  } finally {
    await file.close()
  }
}

/**
 * Whether the last cluster in use begins behind the end of the file. The refcounts tell which that is:
 * one table, and one block of it, are read, however large the image. Undefined for what is no qcow2.
 */
export async function missingEnd(file: FileHandle): Promise<MissingEnd | undefined> {
  const status = await file.stat()
  if (!status.isFile()) return undefined // a device ends where it does
  const header = await readAt(file, 0n, HEADER_SIZE)
  if (header?.toString('latin1', 0, 4) !== 'QFI\xfb') return undefined
  const clusterSize = 2 ** header.readUInt32BE(20)
  const refcountBits = header.readUInt32BE(4) >= 3 ? 2 ** header.readUInt32BE(96) : 16
  const tableSize = header.readUInt32BE(56) * clusterSize
  if (tableSize > MAX_TABLE_SIZE) return undefined
  const table = await readAt(file, header.readBigUInt64BE(48), tableSize)
  if (table === undefined) return 'refcounts'
  const index = lastBlock(table)
  if (index < 0) return undefined
  const offset = table.readBigUInt64BE(index * 8) & OFFSET_MASK
  const block = await readAt(file, offset, clusterSize)
  if (block === undefined) return 'refcounts'
  // Counts of less than a byte begin at its low bits.
  const lastInBlock = Math.floor(lastBit(block) / refcountBits)
  const blockEntries = (clusterSize * 8) / refcountBits
  const isHere = (index * blockEntries + lastInBlock) * clusterSize < status.size
  return isHere ? undefined : 'clusters'
}

function lastBlock(table: Buffer): number {
  return Math.floor(lastBit(table) / 64)
}

/** The highest bit of the last byte that is not 0; -1 if there is none. */
function lastBit(bytes: Buffer): number {
  const index = bytes.findLastIndex((byte) => byte !== 0)
  return index < 0 ? -1 : index * 8 + 31 - Math.clz32(bytes[index] ?? 0)
}

/** Undefined where the file ends before. */
async function readAt(
  file: FileHandle,
  position: bigint,
  length: number,
): Promise<Buffer | undefined> {
  // Looked at before: no file can be asked for what is beyond the largest there may be.
  const { size } = await file.stat({ bigint: true })
  if (position + BigInt(length) > size) return undefined
  const buffer = Buffer.alloc(length)
  const { bytesRead } = await file.read(buffer, 0, length, position)
  return bytesRead === length ? buffer : undefined
}
