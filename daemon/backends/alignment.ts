/** Which offsets, lengths and addresses direct I/O takes, found for the image at hand. */
import {
  PAGE_SIZE,
  SystemError,
  allocateAligned,
  blockDeviceSectorSize,
  pread,
  type FileStatus,
} from '../../native/index.js'

export interface Alignment {
  /** Offsets and lengths of I/O are multiples of this; 1 for I/O through the page cache. */
  readonly blockSize: number
  /** Addresses are multiples of this, a power of two. */
  readonly memoryAlign: number
}

/** Through the page cache anything goes. */
export const BUFFERED: Alignment = { blockSize: 1, memoryAlign: 1 }

/**
 * The size assumed where nothing can be found out, as for an empty file. Every sector size in use
 * divides it; where one does not, direct I/O fails with EINVAL and nothing is written.
 */
const SAFE_BLOCK_SIZE = 4096
const MIN_BLOCK_SIZE = 512

export function isMultiple(value: number, alignment: number): boolean {
  return value % alignment === 0
}

export function roundDown(value: number, alignment: number): number {
  return value - (value % alignment)
}

export function roundUp(value: number, alignment: number): number {
  return roundDown(value + alignment - 1, alignment)
}

export async function deviceAlignment(fd: number, status: FileStatus): Promise<Alignment> {
  const blockSize = Math.max(await blockDeviceSectorSize(fd), status.directOffsetAlign ?? 0)
  return withMemory(blockSize, status)
}

/** Undefined when the file takes no direct I/O of any size. */
export async function fileAlignment(
  fd: number,
  status: FileStatus,
): Promise<Alignment | undefined> {
  const told = status.directOffsetAlign ?? 0
  if (told > 0) return withMemory(Math.max(told, MIN_BLOCK_SIZE), status)
  const probed = await probeBlockSize(fd)
  return probed === undefined ? undefined : withMemory(probed, status)
}

function withMemory(blockSize: number, status: FileStatus): Alignment {
  const told = status.directMemoryAlign ?? 0
  return { blockSize, memoryAlign: told > 0 ? told : Math.min(blockSize, PAGE_SIZE) }
}

/**
 * Direct reads of growing length. One byte that can be read says that alignment was not checked:
 * the file is empty or begins with a hole, or the file system never checks.
 */
async function probeBlockSize(fd: number): Promise<number | undefined> {
  if (await canRead(fd, 1)) return SAFE_BLOCK_SIZE
  for (const size of [MIN_BLOCK_SIZE, SAFE_BLOCK_SIZE]) if (await canRead(fd, size)) return size
  return undefined
}

async function canRead(fd: number, size: number): Promise<boolean> {
  const page = allocateAligned(Math.max(PAGE_SIZE, SAFE_BLOCK_SIZE))
  try {
    await pread(fd, page.subarray(0, size), 0)
    return true
  } catch (error) {
    if (error instanceof SystemError && error.code === 'EINVAL') return false
    throw error
  }
}
