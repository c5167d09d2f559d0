/** Refusals in the words of the API: a short class and an explanation (transfer-api.md, 3.3). */
import { ServiceError } from '../core/errors.js'

export type FaultReason =
  'Operation Failed' | 'Incomplete parameters' | 'Invalid value' | 'Not Found' | 'Unauthorized'

export class FaultError extends ServiceError {
  readonly code = 'ERR_TRANSFER_FAULT'
  readonly statusCode: number
  readonly reason: FaultReason
  constructor(statusCode: number, reason: FaultReason, detail: string) {
    super(detail)
    this.statusCode = statusCode
    this.reason = reason
  }
}

/** Not mounted, or another directory than the one it was. It may come back: to be asked again. */
export class DomainUnavailableError extends FaultError {
  /** What is wrong, without a path. */
  readonly problem: string
  constructor(problem: string) {
    super(409, 'Operation Failed', `The storage domain is not active: ${problem}.`)
    this.problem = problem
  }
}

/** The storage could not store what was written; `cause` says how it failed. A later success would prove nothing. */
export class NotStoredError extends Error {
  override readonly name = 'NotStoredError'
}
