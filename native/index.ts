/**
 * The door to the addon: one typed function per system call. Offsets and sizes are bytes and safe
 * integers. Every call that may block runs on libuv's pool and rejects with a SystemError. Nothing
 * here falls back or decides; calls interrupted by a signal are repeated. A wrong argument throws a
 * TypeError or RangeError at once.
 *
 * Promises cannot be cancelled: a Buffer given to pread() or pwrite() belongs to the call until its
 * promise is settled, and a descriptor must not be closed before.
 */
import { addon } from './addon.js'

export { MISSING_SYMBOL } from './addon.js'
export type { DataRanges, DigestAlgorithm, FileStatus, PeerCredentials } from './addon.js'
export { Digest, DIGEST_ALGORITHMS, hashBlock } from './digest.js'
export { SystemError } from './system-error.js'

export type AllocateMode = 'allocate' | 'zero-range' | 'punch-hole'

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
