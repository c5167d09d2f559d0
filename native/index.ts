/**
 * The door to the addon: one typed function per system call. Offsets and sizes are bytes and safe
 * integers. Every call that may block runs on libuv's pool and rejects with a SystemError. Nothing
 * here falls back or decides; calls interrupted by a signal are repeated. A wrong argument throws a
 * TypeError or RangeError at once.
 *
 * Promises cannot be cancelled: a Buffer given to pread() or pwrite() belongs to the call until its
 * promise is settled, and a descriptor must not be closed before.
 */
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { SystemError } from './system-error.js'

export { SystemError }

/** What open(2) found, as statx(2) tells it. */
export interface FileStatus {
  readonly type:
    'file' | 'block-device' | 'directory' | 'character-device' | 'fifo' | 'socket' | 'other'
  /** st_dev and st_rdev as one number each, equal for equal devices. */
  readonly device: number
  readonly rdev: number
  readonly inode: bigint
  /** Bytes; 0 for devices. */
  readonly size: number
  /** Bytes of allocated storage. */
  readonly allocated: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  /**
   * STATX_DIOALIGN in bytes, absent when the kernel or the file system can't tell; both 0 when the
   * file takes no direct I/O.
   */
  readonly directMemoryAlign?: number
  readonly directOffsetAlign?: number
}

export interface DataRanges {
  /** Ranges that hold data, in order, clipped to what was asked; the rest are holes. */
  readonly ranges: readonly { readonly start: number; readonly end: number }[]
  /** Everything before this offset was looked at; equal to the asked end when all was. */
  readonly next: number
}

export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** Supplementary groups (SO_PEERGROUPS). */
  readonly groups: readonly number[]
}

export type AllocateMode = 'allocate' | 'zero-range' | 'punch-hole'

/** Names of Python's hashlib. */
export type DigestAlgorithm =
  | 'blake2b'
  | 'blake2s'
  | 'md5'
  | 'sha1'
  | `sha${224 | 256 | 384 | 512}`
  | `sha3_${224 | 256 | 384 | 512}`

/** Opaque; only the addon looks inside. */
interface DigestHandle {
  readonly isDigest: true
}

/** See transport.ts, which is its door. */
export interface FrontDoor {
  readonly token: string
  readonly listenTcp: (
    address: string,
    port: number,
    handshakeTimeout: number,
    tls?: TlsSettings,
  ) => Listening
  readonly listenUnix: (path: string) => Listening
  readonly setTls: (listener: number, tls: TlsSettings) => void
  readonly stopListening: (listener: number) => void
  readonly trust: (settings: TrustSettings) => TrustHandle
  readonly dialTcp: (
    addresses: readonly string[],
    port: number,
    trust?: TrustHandle,
    serverName?: string,
    host?: string,
  ) => number
  readonly dialUnix: (path: string) => number
  readonly admit: (connection: number) => void
  readonly cut: (connection: number) => void
  readonly read: (connection: number, request: number, target: Buffer, lingers: boolean) => boolean
  readonly cancelRead: (connection: number) => void
  readonly withholdNext: (connection: number, after: number) => boolean
  readonly hasEnded: (connection: number) => boolean
  readonly write: (connection: number, after: number, chunk: Buffer) => boolean
  readonly received: (connection: number) => number | undefined
  readonly sent: (connection: number) => number | undefined
  readonly close: () => void
}

/** See nbd.ts, which is its door. */
export interface NbdDoor {
  readonly take: (fd: number, dialect: number, cookieHigh: number) => number
  readonly read: (
    link: number,
    header: Buffer,
    cookie: number,
    offset: number,
    target: Buffer,
  ) => void
  readonly send: (link: number, header: Buffer, cookie: number, payload?: Buffer) => void
  readonly cut: (link: number) => void
}

type OnNbdEvent = (
  kind: number,
  link: number,
  value: number,
  content: Buffer | string | undefined,
) => void

export interface TlsSettings {
  /** PEM. */
  readonly key: string
  readonly cert: string
  /** OpenSSL's names, of TLS 1.2 and 1.3. */
  readonly ciphers: string
}

/** Of connections that are dialed. */
export interface TrustSettings {
  /** PEM: whose certificates are good. */
  readonly authorities: string
  /** PEM, shown to servers that ask for one; both or neither are empty. */
  readonly key: string
  readonly cert: string
  /** OpenSSL's names, of TLS 1.2 and 1.3. */
  readonly ciphers: string
}

/** Opaque; only the addon looks inside. */
export interface TrustHandle {
  readonly isTrust: true
}

interface Listening {
  readonly listener: number
  readonly port: number
}

type OnEvent = (
  kind: number,
  connection: number,
  listener: number,
  value: number,
  error: number,
  text: string,
) => void

interface Addon {
  readonly FrontDoor: new (onEvent: OnEvent, threads: number) => FrontDoor
  readonly NbdDoor: new (onEvent: OnNbdEvent, threads: number) => NbdDoor
  readonly setErrorClass: (errorClass: typeof SystemError) => void
  readonly pageSize: number
  readonly allocateAligned: (size: number) => Buffer
  readonly isAligned: (buffer: Buffer, alignment: number) => boolean
  readonly openPath: (path: string) => Promise<number>
  readonly reopen: (fd: number, write: boolean, direct: boolean) => Promise<number>
  readonly descriptorPath: (fd: number) => string
  readonly closeDescriptor: (fd: number) => Promise<void>
  readonly status: (fd: number) => Promise<FileStatus>
  readonly pread: (fd: number, buffer: Buffer, offset: number) => Promise<number>
  readonly pwrite: (fd: number, buffer: Buffer, offset: number) => Promise<number>
  readonly fdatasync: (fd: number) => Promise<void>
  readonly truncate: (fd: number, size: number) => Promise<void>
  readonly fallocate: (fd: number, mode: number, offset: number, size: number) => Promise<void>
  readonly blockDeviceSize: (fd: number) => Promise<number>
  readonly blockDeviceSectorSize: (fd: number) => Promise<number>
  readonly blockDeviceZeroOut: (fd: number, offset: number, size: number) => Promise<void>
  readonly blockDeviceDiscard: (fd: number, offset: number, size: number) => Promise<void>
  readonly dataRanges: (
    fd: number,
    start: number,
    end: number,
    limit: number,
  ) => Promise<DataRanges>
  readonly isLocked: (fd: number, start: number, size: number) => Promise<boolean>
  readonly exit: (status: number) => never
  readonly digestAlgorithms: readonly DigestAlgorithm[]
  readonly createDigest: (algorithm: string) => DigestHandle
  readonly updateDigest: (digest: DigestHandle, buffer: Buffer) => Promise<void>
  readonly updateDigestNow: (digest: DigestHandle, buffer: Buffer) => void
  readonly readDigest: (
    digest: DigestHandle,
    fd: number,
    buffer: Buffer,
    offset: number,
    size: number,
  ) => Promise<number>
  readonly finishDigest: (digest: DigestHandle) => Buffer
  readonly peerCredentials: (fd: number) => PeerCredentials
  readonly hasPeerEnded: (fd: number) => boolean
  readonly connectUnix: (path: string) => number
  readonly sendDatagram: (path: string, message: string) => void
}

const { addon, missing } = load()
addon.setErrorClass(SystemError)

/**
 * Why the addon finds not all it takes from Node, if so. Nothing may then be called that needs it: the
 * process would end.
 */
export const MISSING_SYMBOL: string | undefined = missing

/**
 * Every symbol is looked up at once, not when it is first called: the front's TLS is that of the node
 * binary, which need not be the one the addon was built for.
 */
function load(): { addon: Addon; missing?: string } {
  const require = createRequire(import.meta.url)
  const module = { exports: {} }
  try {
    process.dlopen(module, require.resolve('#addon'), constants.dlopen.RTLD_NOW)
    return { addon: module.exports as Addon }
  } catch (error) {
    return { addon: require('#addon') as Addon, missing: (error as Error).message }
  }
}

/** Bytes; the alignment of allocateAligned(). */
export const PAGE_SIZE: number = addon.pageSize

/**
 * Memory at a page boundary, zeroed, of any size but 0. V8 counts it, and it is given back when the
 * Buffer is garbage. Throws SystemError ENOMEM.
 */
export const allocateAligned = addon.allocateAligned

/** Whether the buffer's first byte lies at a multiple of `alignment` (a power of two). */
export const isAligned = addon.isAligned

/**
 * Opens the place a path names without reading or waiting (O_PATH, openat2(2) with
 * RESOLVE_NO_MAGICLINKS), so that a FIFO does not hang. Follows symbolic links; the magic ones below
 * /proc are ELOOP, except on kernels before 5.6, which follow them.
 */
export const openPath = addon.openPath

/**
 * The path of an open descriptor, links resolved (readlink of /proc/self/fd); ends in ' (deleted)'
 * when the file has no name any more. Throws SystemError.
 */
export const descriptorPath = addon.descriptorPath

/** A descriptor for I/O to the very thing an openPath() descriptor stands for; O_NONBLOCK not set. */
export function reopen(fd: number, mode: { write: boolean; direct: boolean }): Promise<number> {
  return addon.reopen(fd, mode.write, mode.direct)
}

/**
 * close(2). Rejects with EIO and the like, after which the descriptor is closed as well; EINTR is no
 * error.
 */
export const closeDescriptor = addon.closeDescriptor

/** statx(2) of a descriptor. EOVERFLOW for a size that is no safe integer. */
export const status = addon.status

/**
 * Reads until the buffer is full or the file ends; resolves with the bytes read. An error after some
 * bytes rejects.
 */
export const pread = addon.pread

/** One pwrite(2); resolves with the bytes written, which may be fewer than the buffer holds. */
export const pwrite = addon.pwrite

/** fdatasync(2). A failure is told once: what was not yet written may be lost. */
export const fdatasync = addon.fdatasync

/** ftruncate(2), to a longer or a shorter file. */
export const truncate = addon.truncate

/**
 * fallocate(2): 'allocate' (mode 0), 'zero-range' (FALLOC_FL_ZERO_RANGE), 'punch-hole'
 * (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE).
 */
export function fallocate(
  fd: number,
  mode: AllocateMode,
  offset: number,
  size: number,
): Promise<void> {
  return addon.fallocate(fd, ALLOCATE_MODES[mode], offset, size)
}

/** linux/falloc.h */
const ALLOCATE_MODES: Readonly<Record<AllocateMode, number>> = {
  allocate: 0,
  'zero-range': 0x10,
  'punch-hole': 0x02 | 0x01,
}

/** BLKGETSIZE64, in bytes. */
export const blockDeviceSize = addon.blockDeviceSize

/** BLKSSZGET: the logical sector size. */
export const blockDeviceSectorSize = addon.blockDeviceSectorSize

/** BLKZEROOUT: both numbers multiples of the sector size. */
export const blockDeviceZeroOut = addon.blockDeviceZeroOut

/** BLKDISCARD: contents undefined afterwards. */
export const blockDeviceDiscard = addon.blockDeviceDiscard

/**
 * SEEK_DATA and SEEK_HOLE over [start, end), at most `limit` ranges per call and at least one step
 * forward. What lies behind the end of the file is a hole. Block devices can't tell: EINVAL. Moves
 * the descriptor's own file offset, which no other function here uses.
 */
export const dataRanges = addon.dataRanges

/**
 * F_OFD_GETLK: whether somebody else, by another open file, has a lock in [start, start + size), be it
 * shared or exclusive. Programs that lock tell each other so; nothing else heeds it.
 */
export const isLocked = addon.isLocked

/**
 * _exit(2): ends the process at once, with a status of 0 to 255. Nothing runs that Node or V8 do at their end:
 * process.exit() waits for V8's threads there, and for ever when one of them waits for a collection of garbage
 * that only JavaScript's thread could make. What is to be written must be written before.
 */
export const exit: (status: number) => never = addon.exit

/** SO_PEERCRED and SO_PEERGROUPS of a connected Unix socket. Throws SystemError. */
export const peerCredentials = addon.peerCredentials

/**
 * Whether the peer of a TCP socket has ended its side or reset the connection (TCP_INFO: CLOSE_WAIT,
 * CLOSE), whatever of its bytes is still unread. Throws SystemError.
 */
export const hasPeerEnded = addon.hasPeerEnded

/**
 * One datagram to a Unix socket, '@name' or a leading NUL is abstract. Never waits: EAGAIN when the
 * receiver's queue is full. Throws SystemError.
 */
export const sendDatagram = addon.sendDatagram

/** A descriptor of its own, connected and non-blocking. Never waits. Throws SystemError. */
export const connectUnix = addon.connectUnix

/** The native front's threads; only transport.ts uses it. */
export const FrontDoor = addon.FrontDoor

/** Those of NBD; only nbd.ts uses it. */
export const NbdDoor = addon.NbdDoor

/** All there are, sorted. `blake2b` has 32 bytes, which node:crypto cannot make. */
export const DIGEST_ALGORITHMS: readonly DigestAlgorithm[] = Object.freeze(addon.digestAlgorithms)

/** A digest that is fed piece by piece, by the OpenSSL inside Node. One call at a time. */
export class Digest {
  readonly #handle: DigestHandle

  constructor(algorithm: DigestAlgorithm) {
    this.#handle = addon.createDigest(algorithm)
  }

  /** On libuv's pool; the buffer belongs to the call until its promise is settled. */
  update(buffer: Buffer): Promise<void> {
    return addon.updateDigest(this.#handle, buffer)
  }

  /** On this thread, for a few bytes. */
  updateNow(buffer: Buffer): void {
    addon.updateDigestNow(this.#handle, buffer)
  }

  /**
   * Adds what pread(2) gets of [offset, offset + size), on libuv's pool; resolves with the number of
   * bytes, fewer only when the file ends. Reads as many bytes at a time as the buffer has, also at
   * the end, as direct I/O wants it. A digest that was rejected is spoiled.
   */
  read(fd: number, buffer: Buffer, offset: number, size: number): Promise<number> {
    return addon.readDigest(this.#handle, fd, buffer, offset, size)
  }

  /** The digest. Nothing can be added afterwards. */
  finish(): Buffer {
    return addon.finishDigest(this.#handle)
  }
}

/** The digest of one buffer, on libuv's pool. */
export async function hashBlock(algorithm: DigestAlgorithm, block: Buffer): Promise<Buffer> {
  const digest = new Digest(algorithm)
  await digest.update(block)
  return digest.finish()
}
