/** What is wrong with a request, whatever it asks for. */
import { ServiceError } from '../errors.js'

/** Header fields an error adds to its response. */
export type ErrorHeaders = Readonly<Record<string, string>>

/** An error that says more than status and text. */
export interface ErrorWithHeaders {
  readonly headers: ErrorHeaders
}

export class BadRequestError extends ServiceError {
  readonly code = 'ERR_BAD_REQUEST'
  readonly statusCode = 400
}

/** The message cannot be told apart from the next one; the connection ends (RFC 9112, 6.3). */
export class FramingError extends ServiceError {
  readonly code = 'ERR_FRAMING'
  readonly statusCode: number

  constructor(message: string, statusCode = 400) {
    super(message)
    this.statusCode = statusCode
  }
}

export class NoSuchPathError extends ServiceError {
  readonly code = 'ERR_NO_SUCH_PATH'
  readonly statusCode = 404

  constructor() {
    super('there is nothing at this path')
  }
}

export class MethodNotAllowedError extends ServiceError {
  readonly code = 'ERR_METHOD_NOT_ALLOWED'
  readonly statusCode = 405
  readonly headers: ErrorHeaders

  constructor(allow: readonly string[]) {
    super(`this method is not allowed here, use one of ${allow.join(', ')}`)
    this.headers = { allow: allow.join(', ') }
  }
}

/** The client was silent for too long, or sent less than the minimum rate. */
export class BodyTimeoutError extends ServiceError {
  readonly code = 'ERR_BODY_TIMEOUT'
  readonly statusCode = 408

  constructor() {
    super('the request body came too slowly')
  }
}

/** The connection ended, or turned to nonsense, before the body was complete. */
export class IncompleteBodyError extends ServiceError {
  readonly code = 'ERR_INCOMPLETE_BODY'
  readonly statusCode = 400

  constructor(options?: ErrorOptions) {
    super('the request body is not complete', options)
  }
}

/** The body is not the one whose digest its sender gave. It was stored as it came. */
export class ContentDigestError extends ServiceError {
  readonly code = 'ERR_CONTENT_DIGEST'
  readonly statusCode = 400

  constructor(algorithm: string) {
    super(
      `the body does not match its Content-Digest (${algorithm}) and was stored as it came: ` +
        'the range must be sent again',
    )
  }
}

/** A body is what it is to become of the image; decoding is nobody's here (RFC 9110, 8.4 and 15.5.16). */
export class ContentCodingError extends ServiceError {
  readonly code = 'ERR_CONTENT_CODING'
  readonly statusCode = 415
  readonly headers: ErrorHeaders = { 'accept-encoding': 'identity' }

  constructor() {
    super('a body with Content-Encoding would be stored as it is: send the bytes of the image')
  }
}

export class BodyTooLargeError extends ServiceError {
  readonly code = 'ERR_BODY_TOO_LARGE'
  readonly statusCode = 413

  constructor(limit: number) {
    super(`the request body is larger than ${limit} bytes`)
  }
}

/** A Range or a Content-Range that cannot be served (RFC 9110, 15.5.17). */
export class RangeNotSatisfiableError extends ServiceError {
  readonly code = 'ERR_RANGE_NOT_SATISFIABLE'
  readonly statusCode = 416
  readonly headers: ErrorHeaders

  /** `size`: what may be accessed, absent when the syntax is the problem. */
  constructor(message: string, size?: number | bigint) {
    super(message)
    this.headers = size === undefined ? {} : { 'content-range': `bytes */${size}` }
  }
}

export class PreconditionFailedError extends ServiceError {
  readonly code = 'ERR_PRECONDITION_FAILED'
  readonly statusCode = 412

  constructor() {
    super('the image is not in the state the request demands')
  }
}

/** The other end of the connection is gone; nobody reads the answer. */
export class ClientGoneError extends ServiceError {
  readonly code = 'ERR_CLIENT_GONE'
  readonly statusCode = 400

  constructor(options?: ErrorOptions) {
    super('the client has closed the connection', options)
  }
}
