import type { Digest } from '../../native/index.js'

/** How the bytes of one image are reached. Positional: no cursor, any number of calls in flight. */
export interface Backend {
  /** Kind, for logs: 'file', 'block-device', 'memory', 'nbd'. */
  readonly name: string
  /** Alignment in bytes that needs no read-modify-write; 1 when the storage takes any. */
  readonly blockSize: number
  /** Whether a write past the end makes the image longer; else it is refused. */
  readonly canGrow: boolean
  /** How many connections may usefully read (write) at once; advisory, told in OPTIONS. */
  readonly maxReaders: number
  readonly maxWriters: number
  /** Chunks of a download that are worth reading while one is sent; 1 where it is absent. */
  readonly readsAhead?: number
  /** Nothing works any more; only opening again may help. Absent when that cannot happen. */
  readonly isGone?: boolean
  /** Current size in bytes, asked of the storage at each call. */
  size(): Promise<number>
  /** The same, and a validator of the content of that moment. */
  facts(): Promise<ImageFacts>
  /** Reads up to buffer.length bytes at any offset; fewer only at the end of the image. */
  pread(buffer: Buffer, offset: number): Promise<number>
  /**
   * pread() of [offset, offset + size) and digest.update() in one go, piece by piece through the
   * buffer, where the storage has a descriptor; resolves with the number of bytes, fewer only at the
   * end of the image. Undefined when offset or buffer do not fit the storage, or the file was just
   * growing. Unless it got all, the digest is spoiled.
   */
  digest?(digest: Digest, buffer: Buffer, offset: number, size: number): Promise<number | undefined>
  /** Writes the whole buffer at any offset, or rejects. */
  pwrite(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<void>
  /**
   * pwrite() and flush() at once, where the storage can do that and nothing else waits for a flush:
   * resolves with true when everything is on stable storage, with false when nothing was done.
   */
  pwriteStable?(buffer: Buffer, offset: number, signal?: AbortSignal): Promise<boolean>
  /** Makes [offset, offset + size) read as zeroes. mayPunchHole: deallocate, else stay allocated. */
  zero(
    offset: number,
    size: number,
    options: { mayPunchHole: boolean; signal?: AbortSignal },
  ): Promise<void>
  /** Takes all bytes out. Absent where the size is fixed. */
  empty?(): Promise<void>
  /** Resolves when everything acknowledged is on stable storage. */
  flush(): Promise<void>
  /**
   * Contiguous, ordered, neighbours joined, exactly covering [start, end); in pages of many, some of
   * which may be empty.
   */
  extents(start: number, end: number, context: ExtentContext): AsyncIterable<readonly Extent[]>
  /** Idempotent. The caller makes sure that no call is in flight. */
  close(): Promise<void>
}

export interface ImageFacts {
  /** Bytes. */
  readonly size: number
  /**
   * Equal strings mean equal bytes. Undefined while a write is under way or when the storage can't
   * tell.
   */
  readonly etag: string | undefined
}

export type ExtentContext = 'zero' | 'dirty'

/** In the zero context `hole` is set, in the dirty context `dirty`. */
export interface Extent {
  start: number
  length: number
  zero: boolean
  hole?: boolean
  dirty?: boolean
}
