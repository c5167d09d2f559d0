/** How many checksums there may be at a time: each keeps all cores busy and reads a whole image. */
import { ServiceError } from '../../core/errors.js'

/** When the client may try again, in seconds: a checksum takes minutes rather than seconds. */
const RETRY_AFTER = 30

export class ChecksumsBusyError extends ServiceError {
  readonly code = 'ERR_CHECKSUMS_BUSY'
  readonly statusCode = 503
  /** Seconds. */
  readonly retryAfter = RETRY_AFTER
  constructor() {
    super('too many checksums at a time, try again later')
  }
}

export class ChecksumSlots {
  readonly #max: number
  #used = 0

  constructor(max: number) {
    this.#max = max
  }

  /** Runs `work`, or rejects with ChecksumsBusyError. */
  async use(work: () => Promise<void>): Promise<void> {
    if (this.#used >= this.#max) throw new ChecksumsBusyError()
    this.#used++
    try {
      await work()
    } finally {
      this.#used--
    }
  }
}
