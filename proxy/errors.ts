/**
 * What can go wrong between the proxy and a daemon. Texts for clients name no address; the log has it,
 * in the field `daemon`.
 */
import { ServiceError } from '../core/errors.js'

/** A ticket's URL is not an image on a daemon. */
export class UnsupportedDaemonUrlError extends ServiceError {
  readonly code = 'ERR_UNSUPPORTED_DAEMON_URL'
  readonly statusCode = 500

  constructor() {
    super('must be https://HOST[:PORT]/images/ID')
  }
}

/** [proxy] allowed_daemons does not have it. */
export class DaemonNotAllowedError extends ServiceError {
  readonly code = 'ERR_DAEMON_NOT_ALLOWED'
  readonly statusCode = 500

  constructor(address: string) {
    super(`${address} is none of [proxy] allowed_daemons`)
  }
}

/** No connection: no such name, nobody listens, no route. */
export class DaemonUnreachableError extends ServiceError {
  readonly code = 'ERR_DAEMON_UNREACHABLE'
  readonly statusCode = 502

  constructor(cause: unknown) {
    super('the host of the image cannot be reached', { cause })
  }
}

/** Its certificate does not fit. */
export class DaemonUntrustedError extends ServiceError {
  readonly code = 'ERR_DAEMON_UNTRUSTED'
  readonly statusCode = 502

  constructor(cause: unknown) {
    super('the host of the image has no certificate that is trusted here', { cause })
  }
}

/** It wants a certificate of the proxy, and got none, or not one that it trusts. */
export class DaemonDistrustsError extends ServiceError {
  readonly code = 'ERR_DAEMON_DISTRUSTS'
  readonly statusCode = 502

  constructor(cause: unknown) {
    super('the host of the image wants a certificate that it trusts, and got none', { cause })
  }
}

/** It closed the connection before the answer was complete. */
export class DaemonGoneError extends ServiceError {
  readonly code = 'ERR_DAEMON_GONE'
  readonly statusCode = 502

  constructor(cause?: unknown) {
    super('the connection to the host of the image broke', { cause })
  }
}

/** The ticket has as many connections as one may, and none became free in time. */
export class DaemonBusyError extends ServiceError {
  readonly code = 'ERR_DAEMON_BUSY'
  readonly statusCode = 503
  readonly retryAfter = 10

  constructor() {
    super('the ticket has too many requests at the host of the image, try again later')
  }
}

/** It did not connect, answer, send or take in time. */
export class DaemonTimeoutError extends ServiceError {
  readonly code = 'ERR_DAEMON_TIMEOUT'
  readonly statusCode = 504

  constructor(what: string) {
    super(`the host of the image does not answer: ${what}`)
  }
}

/** The ticket here has no `dirty`. Status and text are those of the daemon, which is not asked. */
export class NoDirtyExtentsError extends ServiceError {
  readonly code = 'ERR_NO_DIRTY_EXTENTS'
  readonly statusCode = 404

  constructor() {
    super('the image has no dirty extents')
  }
}

/** The daemon's ticket has more of the image than the one here. */
export class ChecksumBeyondTicketError extends ServiceError {
  readonly code = 'ERR_CHECKSUM_BEYOND_TICKET'
  readonly statusCode = 403

  constructor(size: number | bigint) {
    super(`a checksum is of the whole image, of which the ticket has only ${size} bytes`)
  }
}

/** The ticket's URL leads back here. */
export class LoopError extends ServiceError {
  readonly code = 'ERR_LOOP'
  readonly statusCode = 508

  constructor() {
    super('the request has been here before: the ticket leads back to this proxy')
  }
}

/** What it said is not what a daemon says: no HTTP, a redirect, another length. */
export class DaemonAnswerError extends ServiceError {
  readonly code = 'ERR_DAEMON_ANSWER'
  readonly statusCode = 502

  constructor(what: string, options?: ErrorOptions) {
    super(`the host of the image gave an answer that cannot be used: ${what}`, options)
  }
}

/** OpenSSL's and Node's reasons to refuse a certificate. */
const TRUST =
  /^(CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|INVALID_(CA|PURPOSE)|PATH_LENGTH|HOSTNAME_|CRL_|ERROR_IN_|ERR_TLS_CERT)/

/**
 * The other side's, told by an alert. With TLS 1.3 that comes when there is a connection already, and is an
 * error code; before, it is in the text of EPROTO.
 */
const DISTRUST =
  /alert[_ ](certificate|(bad|unsupported|no)[_ ]certificate|unknown[_ ]ca|access[_ ]denied)/i

/** What Node reports, as one of the above. */
export function daemonError(error: Error, isConnected: boolean): ServiceError {
  if (error instanceof ServiceError) return error
  const { code = '' } = error as NodeJS.ErrnoException
  if (TRUST.test(code)) return new DaemonUntrustedError(withoutAdvice(error))
  if (DISTRUST.test(`${code} ${error.message}`)) return new DaemonDistrustsError(error)
  if (!isConnected) return new DaemonUnreachableError(error)
  if (code.startsWith('HPE_'))
    return new DaemonAnswerError('not well-formed HTTP', { cause: error })
  return new DaemonGoneError(error)
}

/** Node goes on with options of its own command line, which are not the way to mend it here. */
function withoutAdvice(error: Error): Error {
  const [reason = ''] = error.message.split('; if the root CA is installed locally')
  if (reason === error.message) return error
  return Object.assign(new Error(reason), { code: (error as NodeJS.ErrnoException).code })
}
