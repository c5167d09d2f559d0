/** What the user wants served: checked here so that a mistake is told before anything starts. */
import { constants } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import type { GuestFormat } from './format.js'
import type { GuestData } from './guest-data.js'
import { StartError } from './start-error.js'

export interface Image {
  readonly path: string
  /** Of what is served. */
  readonly size: number
  readonly isWritable: boolean
  readonly isSparse: boolean
  /** Made for this run, and gone with it. */
  readonly isSample?: boolean
  /** Read and written by qemu. Without it the file's own bytes are served. */
  readonly guest?: GuestData
  /** Format the file's first bytes claim, although they are served as they are. */
  readonly header?: GuestFormat
}

export type GuestImage = Image & { readonly guest: GuestData }

export function hasGuest(image: Image): image is GuestImage {
  return image.guest !== undefined
}

const SECTOR_SIZE = 512 // the unit of sysfs, whatever the device's own sectors are

/** Throws StartError. */
export async function inspectImage(path: string, isWritable: boolean): Promise<number> {
  try {
    const { R_OK, W_OK } = constants
    const status = await stat(path)
    await access(path, isWritable ? R_OK | W_OK : R_OK)
    if (status.isFile()) return status.size
    if (status.isBlockDevice()) return await deviceSize(status.rdev)
  } catch (cause) {
    throw new StartError(`${path}: ${reasonOf(cause, isWritable)}`, { cause })
  }
  throw new StartError(`${path}: not a regular file or block device`)
}

async function deviceSize(device: number): Promise<number> {
  // The low 20 bits hold minor numbers of up to 8 bits and, above the major one, the rest of them.
  const major = (device >> 8) & 0xfff
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00)
  const sectors = await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')
  return Number(sectors) * SECTOR_SIZE
}

function reasonOf(cause: unknown, isWritable: boolean): string {
  const { code, message } = cause as NodeJS.ErrnoException
  if (code === 'ENOENT') return 'no such file'
  if (code === 'EACCES') return isWritable ? 'may not be read and written' : 'may not be read'
  if (code === 'EROFS') return 'lies on a read-only file system'
  return message
}
