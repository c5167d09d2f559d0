/** Not now: 503, with when to come again. */
import { FaultError } from '../fault.js'

/** Long enough that many who were refused are no load. */
export const RETRY_SECONDS = 5

export class BusyError extends FaultError {
  readonly headers = { 'retry-after': String(RETRY_SECONDS) }
  constructor(detail: string) {
    super(503, 'Operation Failed', detail)
  }
}
