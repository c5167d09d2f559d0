/**
 * What goes wrong with storage, as clients are told, and the one function that turns a failed
 * system call into it. The system call's own error stays the `cause`, for the log.
 */
import { ServiceError } from '../../core/errors.js'
import { SystemError } from '../../native/index.js'

/** The URL of a ticket is none a backend understands. */
export class UnsupportedUrlError extends ServiceError {
  readonly code = 'ERR_UNSUPPORTED_URL'
  readonly statusCode = 500
  constructor(reason?: string) {
    const text = 'the url of the ticket is not supported'
    super(reason === undefined ? text : `${text}: ${reason}`)
  }
}

export class BackendOpenError extends ServiceError {
  readonly code = 'ERR_BACKEND_OPEN'
  readonly statusCode = 500
  constructor(reason: string, options?: ErrorOptions) {
    super(`cannot open the image: ${reason}`, options)
  }
}

export class UnsupportedImageError extends ServiceError {
  readonly code = 'ERR_UNSUPPORTED_IMAGE'
  readonly statusCode = 500
  readonly kind: string
  constructor(kind: string) {
    super(`the image is neither a regular file nor a block device but a ${kind}`)
    this.kind = kind
  }
}

export class PathNotAllowedError extends ServiceError {
  readonly code = 'ERR_PATH_NOT_ALLOWED'
  readonly statusCode = 500
  constructor() {
    super('the image lies outside of the directories this host may serve')
  }
}

/** ENOSPC, EDQUOT, EFBIG. */
export class StorageFullError extends ServiceError {
  readonly code = 'ERR_STORAGE_FULL'
  readonly statusCode = 507
  constructor(options?: ErrorOptions) {
    super('no space left on the storage', options)
  }
}

export class StorageReadOnlyError extends ServiceError {
  readonly code = 'ERR_STORAGE_READ_ONLY'
  readonly statusCode = 500
  constructor(options?: ErrorOptions) {
    super('the storage is read-only', options)
  }
}

/** Any other failed call: EIO, EINVAL … */
export class StorageError extends ServiceError {
  readonly code = 'ERR_STORAGE'
  readonly statusCode = 500
  constructor(reason = 'the storage reported an error', options?: ErrorOptions) {
    super(reason, options)
  }
}

/** A device has a fixed size; nothing of such a request is written. */
export class BeyondEndError extends ServiceError {
  readonly code = 'ERR_BEYOND_END'
  readonly statusCode = 500
  readonly requestedEnd: number
  readonly available: number
  constructor(requestedEnd: number, available: number) {
    super(`the range ends at ${requestedEnd}, beyond the end of the image at ${available}`)
    this.requestedEnd = requestedEnd
    this.available = available
  }
}

/** ENODEV, ENXIO, ESTALE, ENOTCONN: there was storage, and it went away. */
export class StorageGoneError extends ServiceError {
  readonly code = 'ERR_STORAGE_GONE'
  readonly statusCode = 502
  constructor(options?: ErrorOptions) {
    super('the storage is gone', options)
  }
}

export class StorageTimeoutError extends ServiceError {
  readonly code = 'ERR_STORAGE_TIMEOUT'
  readonly statusCode = 504
  constructor(options?: ErrorOptions) {
    super('the storage did not answer in time', options)
  }
}

/**
 * An earlier flush of this image failed. The kernel reports lost writes once and then forgets
 * them, so a later fdatasync that succeeds would prove nothing.
 */
export class WritesLostError extends ServiceError {
  readonly code = 'ERR_WRITES_LOST'
  readonly statusCode = 500
  constructor(options?: ErrorOptions) {
    super('an earlier flush of this image failed, its writes may be lost', options)
  }
}

export class DirtyExtentsUnavailableError extends ServiceError {
  readonly code = 'ERR_DIRTY_EXTENTS_UNAVAILABLE'
  readonly statusCode = 404
  constructor() {
    super('the image has no dirty extents')
  }
}

type Reason = new (options: ErrorOptions) => ServiceError

const REASONS = new Map<string, Reason>([
  ['ENOSPC', StorageFullError],
  ['EDQUOT', StorageFullError],
  ['EFBIG', StorageFullError],
  ['EROFS', StorageReadOnlyError],
  // A device set read-only after it was opened, a file made immutable.
  ['EPERM', StorageReadOnlyError],
  ['ENODEV', StorageGoneError],
  ['ENXIO', StorageGoneError],
  ['ESTALE', StorageGoneError],
  ['ENOTCONN', StorageGoneError],
  ['ETIMEDOUT', StorageTimeoutError],
])

/** What a client is told about a failed call; errors that are no system call's pass unchanged. */
export function storageError(error: unknown): Error {
  if (!(error instanceof SystemError)) {
    return error instanceof Error ? error : new StorageError(undefined, { cause: error })
  }
  const Reason = REASONS.get(error.code)
  if (Reason !== undefined) return new Reason({ cause: error })
  return new StorageError(undefined, { cause: error })
}

const OPEN_REASONS = new Map([
  ['ENOENT', 'it does not exist'],
  ['ENOTDIR', 'it does not exist'],
  ['EACCES', 'permission denied'],
  ['EPERM', 'permission denied'],
  ['ELOOP', 'too many symbolic links'],
  ['ENAMETOOLONG', 'its name is too long'],
  ['EBUSY', 'it is in use'],
  ['ETXTBSY', 'it is in use'],
  ['EMFILE', 'too many open files'],
  ['ENFILE', 'too many open files'],
])

/** The same for calls made while opening. */
export function openError(error: unknown): Error {
  if (!(error instanceof SystemError)) return storageError(error)
  const reason = OPEN_REASONS.get(error.code)
  if (reason === undefined && REASONS.has(error.code)) return storageError(error)
  return new BackendOpenError(reason ?? 'the storage reported an error', { cause: error })
}
