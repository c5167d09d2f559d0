/** Why a request is not served, with what a client needs to do better. */
import { FaultError } from '../../fault.js'

/** libgovirt sends its password only after it was asked by this header. */
export class UnauthorizedError extends FaultError {
  readonly headers = { 'www-authenticate': 'Basic realm="RESTAPI"' }
  constructor() {
    super(
      401,
      'Unauthorized',
      'Log in: send name and password (Basic), or a token (Bearer) that has not ended',
    )
  }
}

export class TooManyFailuresError extends FaultError {
  readonly headers: { readonly 'retry-after': string }
  constructor(seconds: number) {
    super(
      429,
      'Unauthorized',
      `Too many logins fail here; try again in ${seconds} s, or use a token`,
    )
    this.headers = { 'retry-after': String(seconds) }
  }
}
