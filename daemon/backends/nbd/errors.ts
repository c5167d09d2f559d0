/** What an NBD server can do wrong, and what clients are told about it. */
import { ServiceError } from '../../../core/errors.js'
import {
  StorageError,
  StorageFullError,
  StorageGoneError,
  StorageReadOnlyError,
  StorageTimeoutError,
} from '../errors.js'

/** The server broke the protocol. Nothing it says later on this connection can be trusted. */
export class NbdProtocolError extends ServiceError {
  readonly code = 'ERR_NBD_PROTOCOL'
  readonly statusCode = 500
  constructor(violation: string) {
    super(`the NBD server broke the protocol: ${violation}`)
  }
}

/** An errno of the server with its text: a cause for the log. */
export class NbdServerError extends Error {
  override readonly name = 'NbdServerError'
  readonly errno: number
  constructor(errno: number, text = '') {
    super(`${NAMES.get(errno) ?? `error ${errno}`}${text === '' ? '' : `: ${text}`}`)
    this.errno = errno
  }
}

const EPERM = 1
const ENOSPC = 28
const EROFS = 30
const ENOTSUP = 95
const ESHUTDOWN = 108
const ETIMEDOUT = 110

const NAMES = new Map([
  [EPERM, 'EPERM'],
  [5, 'EIO'],
  [12, 'ENOMEM'],
  [22, 'EINVAL'],
  [ENOSPC, 'ENOSPC'],
  [EROFS, 'EROFS'],
  [75, 'EOVERFLOW'],
  [ENOTSUP, 'ENOTSUP'],
  [ESHUTDOWN, 'ESHUTDOWN'],
  [ETIMEDOUT, 'ETIMEDOUT'],
])

export function isUnsupported(error: unknown): boolean {
  return error instanceof NbdServerError && error.errno === ENOTSUP
}

/** Errors of the server as a client sees them; all others pass unchanged. */
export function nbdError(error: unknown): Error {
  if (!(error instanceof NbdServerError)) {
    return error instanceof Error ? error : new StorageError(undefined, { cause: error })
  }
  const options = { cause: error }
  switch (error.errno) {
    case ENOSPC:
      return new StorageFullError(options)
    case EPERM:
    case EROFS:
      return new StorageReadOnlyError(options)
    case ESHUTDOWN:
      return new StorageGoneError(options)
    case ETIMEDOUT:
      return new StorageTimeoutError(options)
    default:
      return new StorageError(undefined, options)
  }
}
