/**
 * Whether an uploaded image may become a disk. It comes from anybody: the answer is about what the
 * file would make qemu do, whether it fits and has its end, never about what the guest will find in it.
 *
 * A raw disk is refused when its first bytes are the header of another format (foreign-format.ts),
 * as the published rules want: also a disk that the guest itself encrypted with LUKS as a whole. For
 * the rest raw bytes need no parser, so qemu is not asked.
 */
import { constants, type BigIntStats } from 'node:fs'
import { lstat, open } from 'node:fs/promises'
import type { DiskFormat } from '../model.js'
import { foreignFormat, PROBE_SIZE } from './foreign-format.js'
import { ImageFile, ImageRefused } from './image-file.js'
import { VerificationError, VERIFY_LIMITS, type Limits } from './limited-child.js'
import { checkOwnFile } from './own-file.js'
import { inspectQcow2 } from './qcow2.js'
import { checkEnd } from './qcow2-end.js'
import { qemuInfo } from './qemu-info.js'
import { checkNoWriter } from './writers.js'

export { VerificationError }

export interface VolumeToVerify {
  readonly path: string
  readonly format: DiskFormat
  readonly provisionedSize: number
}

export type Verification =
  | {
      readonly ok: true
      /** Of cow disks. */
      readonly qcowVersion: 'qcow2_v2' | 'qcow2_v3' | undefined
      readonly virtualSize: number
      /** Bytes allocated. */
      readonly actualSize: number
      readonly warnings: readonly string[]
    }
  | { readonly ok: false; readonly reason: string }

interface ImageFacts {
  readonly qcowVersion: 'qcow2_v2' | 'qcow2_v3' | undefined
  readonly virtualSize: number
  readonly warnings: readonly string[]
}

/** Volumes of raw disks are allocated in whole sectors. */
const SECTOR = 512n

/**
 * Nobody may write any more: the tickets are removed, the NBD server is stopped. Throws
 * VerificationError when it cannot be said, because of the storage or of this machine: to be asked
 * again later, never to be taken for either answer.
 */
export async function verifyVolume(
  volume: VolumeToVerify,
  limits: Limits = VERIFY_LIMITS,
): Promise<Verification> {
  try {
    return await verify(volume, limits)
  } catch (error) {
    if (error instanceof ImageRefused) return { ok: false, reason: error.message }
    if (error instanceof VerificationError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new VerificationError(`cannot read the volume: ${reason}`, { cause: error })
  }
}

async function verify(volume: VolumeToVerify, limits: Limits): Promise<Verification> {
  const { path, format } = volume
  // Looked at before it is opened, since opening a device or a FIFO may already do something.
  checkOwnFile(await status(path))
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(refuseLink)
  try {
    const opened = await handle.stat({ bigint: true })
    checkOwnFile(opened)
    checkIsSame(opened, await status(path))
    await checkNoWriter(handle)
    const image = new ImageFile(handle, opened.size)
    const verifyImage = format === 'raw' ? verifyRaw : verifyQcow2
    const facts = await verifyImage(image, volume, limits)
    await checkNoWriter(handle)
    await checkUnchanged(path, opened)
    return { ok: true, ...facts, actualSize: Number(opened.blocks) * 512 }
  } finally {
    await handle.close()
  }
}

async function verifyRaw(image: ImageFile, volume: VolumeToVerify): Promise<ImageFacts> {
  const warnings = checkSize(volume, image.size)
  const format = foreignFormat(await image.readUpTo(0n, PROBE_SIZE))
  if (format !== undefined) throw new ImageRefused(`the raw disk begins with a ${format} header`)
  return { qcowVersion: undefined, virtualSize: Number(image.size), warnings }
}

async function verifyQcow2(
  image: ImageFile,
  volume: VolumeToVerify,
  limits: Limits,
): Promise<ImageFacts> {
  const qcow2 = await inspectQcow2(image)
  const { version, virtualSize, isDirty } = qcow2.header
  const warnings = checkSize(volume, virtualSize)
  const seen = BigInt((await qemuInfo(image, limits)).virtualSize)
  // qemu counts whole sectors.
  if (seen !== virtualSize && seen !== virtualSize - (virtualSize % SECTOR)) {
    throw new ImageRefused(`qemu sees ${seen} bytes where the header says ${virtualSize}`)
  }
  warnings.push(...(await checkEnd(image, qcow2, limits.mapMs)))
  if (isDirty) warnings.push('the image was not closed; its reference counts may be wrong')
  const qcowVersion = version === 2 ? 'qcow2_v2' : 'qcow2_v3'
  return { qcowVersion, virtualSize: Number(virtualSize), warnings }
}

/** Warnings. */
function checkSize({ provisionedSize }: VolumeToVerify, virtualSize: bigint): string[] {
  const provisioned = BigInt(provisionedSize)
  const allowed = ((provisioned + SECTOR - 1n) / SECTOR) * SECTOR
  if (virtualSize > allowed) {
    throw new ImageRefused(`the image has ${virtualSize} bytes, the disk ${provisioned}`)
  }
  if (virtualSize >= provisioned) return []
  return [`the image has ${virtualSize} bytes, fewer than the disk's ${provisioned}`]
}

function status(path: string): Promise<BigIntStats> {
  return lstat(path, { bigint: true })
}

/** The path was made a link after it was looked at. */
function refuseLink(error: unknown): never {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'ELOOP') throw new ImageRefused('the volume is no regular file')
  throw error
}

function checkIsSame(opened: BigIntStats, named: BigIntStats): void {
  if (opened.dev !== named.dev || opened.ino !== named.ino) {
    throw new ImageRefused('the volume was replaced while it was verified')
  }
}

/** Somebody still writes: what was looked at is not what the disk would hold. */
async function checkUnchanged(path: string, before: BigIntStats): Promise<void> {
  const after = await status(path)
  checkIsSame(before, after)
  if (before.size !== after.size || before.mtimeNs !== after.mtimeNs) {
    throw new VerificationError('the volume was written while it was verified')
  }
}
