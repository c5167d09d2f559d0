/** A volume that becomes larger; what is new reads as zeroes. */
import type { FileHandle } from 'node:fs/promises'
import { ImageFile } from '../verify/image-file.js'
import { inspectQcow2 } from '../verify/qcow2.js'
import { allocate, rawLength } from './make-volume.js'
import { runQemuImg } from './qemu-img.js'
import type { VolumeSpec } from './volume-provider.js'

/** To the provisioned size of `volume`, unless it has that. After an error it is as it was. */
export async function growVolume(
  file: FileHandle,
  volume: VolumeSpec,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (volume.format === 'cow') await growQcow2(file, volume, signal)
  else await growRaw(file, volume, signal)
}

async function growRaw(
  file: FileHandle,
  { provisionedSize, sparse }: VolumeSpec,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { size } = await file.stat()
  const length = rawLength(provisionedSize)
  if (length <= size) return
  try {
    // Allocating makes it longer: whoever is killed midway leaves no length without its storage.
    if (sparse) await file.truncate(length)
    else await allocate(file, size, length, signal)
  } catch (error) {
    await file.truncate(size)
    throw error
  }
}

/** The image was verified before; qemu writes to it only when its header still names no other file. */
async function growQcow2(
  file: FileHandle,
  { provisionedSize, sparse }: VolumeSpec,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { size } = await file.stat({ bigint: true })
  const { header } = await inspectQcow2(new ImageFile(file, size))
  if (header.virtualSize >= BigInt(provisionedSize)) return
  const preallocation = `--preallocation=${sparse ? 'off' : 'falloc'}`
  const words = ['resize', '-q', '-f', 'qcow2', preallocation]
  await runQemuImg(words, String(provisionedSize), file, signal)
}
