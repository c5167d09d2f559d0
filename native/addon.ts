/**
 * The addon as it was compiled, and its types. Other rooms have doors to it: index.ts to system calls, digest.ts,
 * transport.ts, nbd.ts.
 */
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { SystemError } from './system-error.js'

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

/** Names of Python's hashlib. */
export type DigestAlgorithm =
  | 'blake2b'
  | 'blake2s'
  | 'md5'
  | 'sha1'
  | `sha${224 | 256 | 384 | 512}`
  | `sha3_${224 | 256 | 384 | 512}`

/** Opaque; only the addon looks inside. */
export interface DigestHandle {
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

export type OnEvent = (
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
export { addon }
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
