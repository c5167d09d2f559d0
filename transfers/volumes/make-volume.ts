/** What a new volume holds: nothing, allocated or not, raw or in a qcow2 container. */
import { spawn } from 'node:child_process'
import type { FileHandle } from 'node:fs/promises'
import { GiB, MiB } from '../../core/units.js'
import { fallocate } from '../../native/index.js'
import type { VolumeSpec } from './volume-provider.js'

/** So that a large allocation can be stopped. */
const ALLOCATE_STEP = 16 * GiB
const WRITE_STEP = 8 * MiB
const SECTOR = 512
const MAX_SAID = 4096

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
  if (!volume.sparse) await allocate(file, length, signal)
}

async function allocate(
  file: FileHandle,
  length: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    for (let offset = 0; offset < length; offset += ALLOCATE_STEP) {
      signal?.throwIfAborted()
      await fallocate(file.fd, 'allocate', offset, Math.min(ALLOCATE_STEP, length - offset))
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EOPNOTSUPP' && code !== 'ENOTSUP' && code !== 'ENOSYS') throw error
    await writeZeroes(file, 0, length, signal)
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

/** qemu-img gets the open file, and no name that could become another one. */
async function makeQcow2(
  file: FileHandle,
  { provisionedSize, sparse }: VolumeSpec,
  signal: AbortSignal | undefined,
): Promise<void> {
  const options = `compat=1.1${sparse ? '' : ',preallocation=falloc'}`
  const size = String(provisionedSize)
  const args = ['create', '-q', '-f', 'qcow2', '-o', options, '/proc/self/fd/3', size]
  const child = spawn('qemu-img', args, {
    stdio: ['ignore', 'ignore', 'pipe', file.fd],
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    cwd: '/',
    ...(signal && { signal }),
    killSignal: 'SIGKILL',
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MAX_SAID)
  })
  // Not before it has ended may the file be removed, also when it is killed.
  let failure: Error | undefined
  child.once('error', (error) => (failure = error))
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve))
  signal?.throwIfAborted()
  if (failure !== undefined) {
    throw new Error(`cannot run qemu-img: ${failure.message}`, { cause: failure })
  }
  if (status === 0) return
  const isFull = /No space left on device|Disk quota exceeded/.test(said)
  throw Object.assign(new Error(`qemu-img create: ${said.trim()}`), isFull && { code: 'ENOSPC' })
}
