/** What can come of asking a host, as far as it makes a difference to a transfer. */
import { ServiceError } from '../../core/errors.js'

/** No answer: the daemon is down, the network is, or the host. Asking again may help. */
export class HostUnreachableError extends ServiceError {
  readonly code = 'ERR_HOST_UNREACHABLE'
  readonly statusCode = 503
}

/** 409: requests of clients have not ended yet. Asking again is the way. */
export class HostBusyError extends ServiceError {
  readonly code = 'ERR_HOST_BUSY'
  readonly statusCode = 503
}

/** It answered, and said no. */
export class HostRefusedError extends ServiceError {
  readonly code = 'ERR_HOST_REFUSED'
  readonly statusCode = 502
  /** It was asked for something that it does not do; else it failed. */
  readonly isRefusal: boolean

  constructor(message: string, options: ErrorOptions & { isRefusal?: boolean } = {}) {
    super(message, options)
    this.isRefusal = options.isRefusal ?? false
  }
}

/** 410: the ticket was removed for good, and cannot be installed again. */
export class TicketRemovedError extends HostRefusedError {
  constructor(message: string, options: ErrorOptions = {}) {
    super(message, { ...options, isRefusal: true })
  }
}

/** 412: the ticket is not removed for good, since what was uploaded under it is not complete, or lost. */
export class TicketUnfinishedError extends HostRefusedError {}

/** For the log: what had to be expected needs no stack. */
export function loggedError(error: unknown): { reason: string } | { err: unknown } {
  return error instanceof ServiceError ? { reason: error.message } : { err: error }
}
