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
