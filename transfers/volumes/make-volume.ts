/** What a new volume holds: nothing, allocated or not, raw or in a qcow2 container. */
import type { FileHandle } from 'node:fs/promises'
import { GiB, MiB } from '../../core/units.js'
import { fallocate } from '../../native/index.js'
import { runQemuImg } from './qemu-img.js'
import type { VolumeSpec } from './volume-provider.js'

/** So that a large allocation can be stopped. */
const ALLOCATE_STEP = 16 * GiB
const WRITE_STEP = 8 * MiB
const SECTOR = 512

/** Raw disks are stored in whole sectors, as qemu sees them. */
export function rawLength(provisionedSize: number): number {
  return Math.ceil(provisionedSize / SECTOR) * SECTOR
}

/** Into an empty file. */
export async function makeVolume(
  file: FileHandle,
  volume: VolumeSpec,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (volume.format === 'cow') return makeQcow2(file, volume, signal)
  const length = rawLength(volume.provisionedSize)
  await file.truncate(length)
  if (!volume.sparse) await allocate(file, 0, length, signal)
}

export async function allocate(
  file: FileHandle,
  start: number,
  end: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    for (let offset = start; offset < end; offset += ALLOCATE_STEP) {
      signal?.throwIfAborted()
      await fallocate(file.fd, 'allocate', offset, Math.min(ALLOCATE_STEP, end - offset))
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EOPNOTSUPP' && code !== 'ENOTSUP' && code !== 'ENOSYS') throw error
    await writeZeroes(file, start, end, signal)
  }
}

export async function writeZeroes(
  file: FileHandle,
  start: number,
  end: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const zeroes = Buffer.alloc(Math.min(WRITE_STEP, end - start))
  let offset = start
  while (offset < end) {
    signal?.throwIfAborted()
    const size = Math.min(zeroes.length, end - offset)
    offset += (await file.write(zeroes, 0, size, offset)).bytesWritten
  }
}

function makeQcow2(
  file: FileHandle,
  { provisionedSize, sparse }: VolumeSpec,
  signal: AbortSignal | undefined,
): Promise<void> {
  const options = `compat=1.1${sparse ? '' : ',preallocation=falloc'}`
  const words = ['create', '-q', '-f', 'qcow2', '-o', options]
  return runQemuImg(words, String(provisionedSize), file, signal)
}
