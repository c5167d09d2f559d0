/**
 * From the URL of a ticket to a backend. What is checked is what is used: the path is looked up
 * once, without opening anything for I/O, and the kind, the allowed directories and the descriptor
 * for I/O all come from that one look-up.
 */
import { normalize } from 'node:path'
import {
  SystemError,
  closeDescriptor,
  descriptorPath,
  openPath,
  reopen,
  status,
  type FileStatus,
} from '../../native/index.js'
import { AlignedIo } from './aligned-io.js'
import { BUFFERED, deviceAlignment, fileAlignment, type Alignment } from './alignment.js'
import type { Backend } from './backend.js'
import { BlockDeviceBackend } from './block-device.js'
import {
  PathNotAllowedError,
  UnsupportedImageError,
  UnsupportedUrlError,
  openError,
} from './errors.js'
import { FileBackend } from './file.js'
import { imageIdentity, type ImageStates, type Writer } from './image-states.js'
import { openNbd, type OpenNbdOptions } from './nbd/open.js'
import { isNbdUrl, normalizeNbdUrl } from './nbd/url.js'

/** What openBackend() needs for any URL. */
export type OpenAnyOptions = OpenOptions & OpenNbdOptions

export interface OpenOptions {
  readonly writable: boolean
  /** Whether zeroes become holes is said with each zero(), not here. */
  readonly sparse?: never
  /** Reported as maxReaders and, where it makes sense, maxWriters. */
  readonly maxConnections: number
  /** Directories the image must lie under once links are followed; none given means any. */
  readonly allowedPaths: readonly string[]
  readonly images: ImageStates
  /** Who writes, to be told what is lost. */
  readonly writer?: Writer
}

/** The same URL as tickets show it: `FILE:/a` is `file:///a`. Throws UnsupportedUrlError. */
export function normalizeUrl(url: string): string {
  if (isNbdUrl(url)) return normalizeNbdUrl(url)
  const parts = splitFileUrl(url)
  if (parts === undefined) throw new UnsupportedUrlError()
  return `file://${parts.host}${parts.path}`
}

/** Whether a file's path is under one of the directories as it is written, before links are followed. */
export function isWrittenUnder(url: string, directories: readonly string[]): boolean {
  const path = splitFileUrl(url)?.path
  return path !== undefined && directories.some((one) => isUnder(normalize(path), one))
}

export async function openBackend(url: string, options: OpenAnyOptions): Promise<Backend> {
  return isNbdUrl(url) ? openNbd(url, options) : openFile(url, options)
}

/** A regular file or a block device. */
export async function openFile(url: string, options: OpenOptions): Promise<Backend> {
  const parts = splitFileUrl(url)
  if (parts === undefined) throw new UnsupportedUrlError()
  try {
    return await openImage(parts.path, options)
  } catch (error) {
    throw openError(error)
  }
}

/**
 * Everything behind scheme and host is the path, byte for byte: percent signs, `?`, `#` and `;` are
 * characters that file names may have, and a management engine that has such a name sends it as it
 * is. A host is allowed, since URLs may have one, and means nothing.
 */
function splitFileUrl(url: string): { host: string; path: string } | undefined {
  const match = /^file:(?:\/\/(?<host>[^/?#]*)|(?!\/\/))(?<path>\/.*)$/is.exec(url)
  const path = match?.groups?.['path']
  // system calls end a path at NUL: what was checked would not be what is opened
  if (path === undefined || url.includes('\0')) return undefined
  return { host: match?.groups?.['host'] ?? '', path }
}

async function openImage(path: string, options: OpenOptions): Promise<Backend> {
  const place = await openPath(path)
  try {
    const found = await status(place)
    checkKind(found)
    await checkAllowed(place, options.allowedPaths)
    const io = await openForIo(place, found, options.writable)
    return createBackend(io, found, options)
  } finally {
    await closeDescriptor(place)
  }
}

const KINDS: Readonly<Record<FileStatus['type'], string>> = {
  file: 'regular file',
  'block-device': 'block device',
  directory: 'directory',
  'character-device': 'character device',
  fifo: 'FIFO',
  socket: 'socket',
  other: 'file of unknown kind',
}

function checkKind({ type }: FileStatus): void {
  if (type !== 'file' && type !== 'block-device') throw new UnsupportedImageError(KINDS[type])
}

async function checkAllowed(place: number, directories: readonly string[]): Promise<void> {
  if (directories.length === 0) return
  const path = descriptorPath(place)
  for (const directory of directories) {
    if (isUnder(path, await withoutLinks(directory))) return
  }
  throw new PathNotAllowedError()
}

/** By whole components: /data/a does not allow /data/ab. */
function isUnder(path: string, directory: string): boolean {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`
  return path.startsWith(prefix) || path === directory
}

/** The image's path has its links resolved, so an allowed directory behind a link must have too. */
async function withoutLinks(directory: string): Promise<string> {
  let fd: number
  try {
    fd = await openPath(directory)
  } catch (error) {
    // A directory that is not there allows nothing.
    if (error instanceof SystemError) return directory
    throw error
  }
  try {
    return descriptorPath(fd)
  } finally {
    await closeDescriptor(fd)
  }
}

/** Direct I/O if the storage takes it in any form we know, else through the page cache. */
async function openForIo(place: number, found: FileStatus, write: boolean): Promise<AlignedIo> {
  const direct = await reopenDirect(place, write)
  if (direct !== undefined) {
    const alignment = await findAlignment(direct, found).catch(async (error: unknown) => {
      await closeDescriptor(direct)
      throw error
    })
    if (alignment !== undefined) return new AlignedIo(direct, alignment)
    await closeDescriptor(direct)
  }
  return new AlignedIo(await reopen(place, { write, direct: false }), BUFFERED)
}

async function reopenDirect(place: number, write: boolean): Promise<number | undefined> {
  try {
    return await reopen(place, { write, direct: true })
  } catch (error) {
    if (error instanceof SystemError && error.code === 'EINVAL') return undefined
    throw error
  }
}

async function findAlignment(fd: number, found: FileStatus): Promise<Alignment | undefined> {
  const now = await status(fd)
  return found.type === 'block-device' ? deviceAlignment(fd, now) : fileAlignment(fd, now)
}

function createBackend(io: AlignedIo, found: FileStatus, options: OpenOptions): Backend {
  const parts = {
    io,
    isWritable: options.writable,
    maxConnections: options.maxConnections,
    images: options.images,
    state: options.images.acquire(imageIdentity(found)),
    writer: options.writer,
  }
  return found.type === 'block-device' ? new BlockDeviceBackend(parts) : new FileBackend(parts)
}
