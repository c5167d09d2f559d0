/** A storage domain that is a directory: one file for each volume. */
import { constants } from 'node:fs'
import { statfs, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { KiB } from '../../core/units.js'
import { dataRanges, fdatasync } from '../../native/index.js'
import { FaultError, NotStoredError } from '../fault.js'
import type { Id } from '../model.js'
import { checkOwnFile } from '../verify/own-file.js'
import { Directory, isMissing } from './directory.js'
import { checkMarker, readMarker, writeMarker } from './domain-marker.js'
import { growVolume } from './grow-volume.js'
import { makeVolume, rawLength, writeZeroes } from './make-volume.js'
import { unfinishedId, unfinishedName, isId, volumeName } from './volume-names.js'
import type {
  RemoveOptions,
  Space,
  VolumeFile,
  VolumeFacts,
  VolumeProvider,
  VolumeRef,
  VolumeSpec,
} from './volume-provider.js'

export interface DirectoryVolumesOptions {
  /** Absolute; may itself be a link. */
  readonly path: string
  /** The id of the domain, which the directory has to be marked with; without one any will do. */
  readonly domain?: Id
  /** The group of the daemon, which reads and writes the volumes; ours must be a member of it. */
  readonly group?: number
  /** Bytes of the file system that volumes leave free. */
  readonly reserved?: number
}

/** The owner, us, and the group, the daemon's. */
const FILE_MODE = 0o660
/** Tables and header of a new qcow2 image of usual size. */
const QCOW2_OVERHEAD = 256 * KiB
/** DataRanges of one call. */
const MAX_RANGES = 1024

export class DirectoryVolumes implements VolumeProvider {
  readonly isSparseCapable = true
  readonly #path: string
  readonly #domain: Id | undefined
  readonly #group: number | undefined
  readonly #reserved: number

  constructor({ path, domain, group, reserved = 0 }: DirectoryVolumesOptions) {
    this.#path = path
    this.#domain = domain
    this.#group = group
    this.#reserved = reserved
  }

  async create(volume: VolumeSpec, signal?: AbortSignal): Promise<VolumeFacts> {
    const name = volumeName(volume.imageId)
    signal?.throwIfAborted()
    await this.#checkRoom('add', initialAllocation(volume))
    return this.#use(async (directory) => {
      if (await directory.has(name)) throw volumeExists()
      const unfinished = unfinishedName(volume.imageId, 'new')
      try {
        const facts = await this.#make(directory, unfinished, volume, signal)
        await directory.publish(unfinished, name)
        await this.#keep(directory, name)
        return facts
      } catch (error) {
        await directory.unlink(unfinished)
        throw asFault(error, 'add')
      }
    })
  }

  async #keep(directory: Directory, name: string): Promise<void> {
    try {
      await directory.sync()
    } catch (error) {
      await directory.unlink(name)
      throw error
    }
  }

  async #make(
    directory: Directory,
    name: string,
    volume: VolumeSpec,
    signal: AbortSignal | undefined,
  ): Promise<VolumeFacts> {
    const { O_RDWR, O_CREAT, O_EXCL } = constants
    const file = await directory.open(name, O_RDWR | O_CREAT | O_EXCL, FILE_MODE)
    try {
      // Not the mode of open(), which the umask cuts.
      if (this.#group !== undefined) await file.chown(-1, this.#group)
      await file.chmod(FILE_MODE)
      await makeVolume(file, volume, signal)
      await file.sync()
      return factsOf(await file.stat())
    } finally {
      await file.close()
    }
  }

  async grow(volume: VolumeSpec, signal?: AbortSignal): Promise<VolumeFacts> {
    const name = volumeName(volume.imageId)
    return this.#use(async (directory) => {
      checkOwnFile(await directory.status(name))
      const file = await directory.open(name, constants.O_RDWR)
      try {
        const before = await file.stat()
        checkOwnFile(before)
        if (!volume.sparse) {
          await this.#checkRoom('grow', rawLength(volume.provisionedSize) - before.blocks * 512)
        }
        await growVolume(file, volume, signal)
        await file.sync()
        return factsOf(await file.stat())
      } catch (error) {
        throw asFault(error, 'grow')
      } finally {
        await file.close()
      }
    })
  }

  async flush({ imageId }: VolumeRef): Promise<void> {
    await this.#use(async (directory) => {
      const file = await directory.open(volumeName(imageId), constants.O_RDWR)
      const notStored = (cause: unknown): never => {
        throw new NotStoredError('the storage failed', { cause })
      }
      try {
        checkOwnFile(await file.stat())
        await fdatasync(file.fd).catch(notStored)
      } finally {
        // It may be the one that tells, on network file systems.
        await file.close().catch(notStored)
      }
    })
  }

  async remove({ imageId }: VolumeRef, { wipe, signal }: RemoveOptions): Promise<void> {
    const name = volumeName(imageId)
    await this.#use(async (directory) => {
      // From now on there is no such volume, however long the rest takes.
      await directory.rename(name, unfinishedName(imageId, 'old')).catch((error: unknown) => {
        if (!isMissing(error)) throw error
      })
      const rest = (await directory.entries()).filter(
        (entry) => unfinishedId(entry.name) === imageId,
      )
      for (const entry of rest) {
        if (wipe && entry.isFile()) await wipeFile(directory, entry.name, signal)
        await directory.unlink(entry.name)
      }
      await directory.sync()
    })
  }

  facts({ imageId }: VolumeRef): Promise<VolumeFacts> {
    return this.#use(async (directory) => {
      const found = await directory.status(volumeName(imageId))
      checkOwnFile(found)
      return factsOf(found)
    })
  }

  path({ imageId }: VolumeRef): string {
    return join(this.#path, volumeName(imageId))
  }

  /** The daemon takes what is behind the host byte for byte. */
  url(volume: VolumeRef): string {
    return `file://${this.path(volume)}`
  }

  space(): Promise<Space> {
    return this.#use(async () => {
      const { bsize, blocks, bfree, bavail } = await statfs(this.#path)
      return { available: bavail * bsize, used: (blocks - bfree) * bsize }
    })
  }

  /** Foreign files with names no volume has are nobody's business. */
  files(): Promise<readonly VolumeFile[]> {
    return this.#use(async (directory) => {
      const found: VolumeFile[] = []
      for (const { name } of await directory.entries()) {
        const unfinished = unfinishedId(name)
        const imageId = unfinished ?? (isId(name) ? name : undefined)
        if (imageId === undefined) continue
        const status = await directory.status(name).catch(() => undefined)
        if (status?.isFile() !== true) continue
        const { actualSize } = factsOf(status)
        found.push({ name, imageId, isUnfinished: unfinished !== undefined, actualSize })
      }
      return found
    })
  }

  claim(volumes: readonly VolumeRef[] | undefined): Promise<boolean> {
    const domain = this.#domain
    if (domain === undefined) return Promise.resolve(true)
    return Directory.use(this.#path, async (directory) => {
      if ((await readMarker(directory)) === undefined) {
        // A directory that was used before there were markers, or that lost its own, has its volumes.
        if (volumes !== undefined && !(await hasAny(directory, volumes))) return false
        await writeMarker(directory, domain)
      }
      await checkMarker(directory, domain)
      return true
    })
  }

  /** The marker is looked for in the very directory that is worked in. */
  #use<T>(body: (directory: Directory) => Promise<T>): Promise<T> {
    return Directory.use(this.#path, async (directory) => {
      if (this.#domain !== undefined) await checkMarker(directory, this.#domain)
      return body(directory)
    })
  }

  async #checkRoom(what: Work, needed: number): Promise<void> {
    const { available } = await this.space()
    if (needed + this.#reserved <= available) return
    const left = Math.max(0, available - this.#reserved)
    throw lowSpace(what, `: ${needed} bytes are needed, ${left} are available`)
  }
}

type Work = 'add' | 'grow'

async function hasAny(directory: Directory, volumes: readonly VolumeRef[]): Promise<boolean> {
  for (const { imageId } of volumes) {
    if (await directory.has(volumeName(imageId))) return true
  }
  return false
}

/** Bytes that must be there now; a sparse disk may promise more than there is. */
function initialAllocation({ format, provisionedSize, initialSize, sparse }: VolumeSpec): number {
  const overhead = format === 'cow' ? QCOW2_OVERHEAD : 0
  return overhead + (sparse ? (initialSize ?? 0) : rawLength(provisionedSize))
}

/** Of what is stored only: the holes hold nothing. The blocks go to whoever reads the device next. */
async function wipeFile(
  directory: Directory,
  name: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const file = await directory.open(name, constants.O_RDWR)
  try {
    const found = await file.stat()
    // With another name it is not only ours.
    if (!found.isFile() || found.nlink > 1) return
    await wipeRanges(file, found.size, signal)
    await fdatasync(file.fd)
  } finally {
    await file.close()
  }
}

async function wipeRanges(
  file: FileHandle,
  size: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let offset = 0; offset < size;) {
    const { ranges, next } = await dataRanges(file.fd, offset, size, MAX_RANGES)
    for (const { start, end } of ranges) await writeZeroes(file, start, end, signal)
    offset = next
  }
}

function factsOf(status: {
  readonly size: number | bigint
  readonly blocks: number | bigint
}): VolumeFacts {
  return { length: Number(status.size), actualSize: Number(status.blocks) * 512 }
}

function volumeExists(): FaultError {
  return refused('add', 'The image exists')
}

function lowSpace(what: Work, facts = ''): FaultError {
  return refused(what, `Low disk space on Storage Domain${facts}`)
}

function refused(what: Work, reason: string): FaultError {
  return new FaultError(409, 'Operation Failed', `[Cannot ${what} Virtual Disk. ${reason}.]`)
}

function asFault(error: unknown, what: Work): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EEXIST':
      return volumeExists()
    case 'ENOSPC':
    case 'EDQUOT':
      return lowSpace(what)
    case 'EFBIG':
      return refused(what, 'The storage domain has no files of this size')
    default:
      return error
  }
}
