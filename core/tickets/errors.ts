/** Why a ticket is no good. Texts name tickets by their transfer, never by their id. */
import { ServiceError } from '../errors.js'

/** No such ticket, or it does not allow this. */
export class TicketDeniedError extends ServiceError {
  readonly code = 'ERR_TICKET_DENIED'
  readonly statusCode = 403
}

export class TicketExpiredError extends ServiceError {
  readonly code = 'ERR_TICKET_EXPIRED'
  readonly statusCode = 403

  constructor() {
    super('the ticket has expired')
  }
}

/** The ticket was deleted, perhaps while the operation ran. */
export class TicketCanceledError extends ServiceError {
  readonly code = 'ERR_TICKET_CANCELED'
  readonly statusCode = 403

  constructor() {
    super('the transfer was canceled')
  }
}

export class TicketInvalidError extends ServiceError {
  readonly code = 'ERR_TICKET_INVALID'
  readonly statusCode = 400
}

/** Control service only: images answer 403, so that ids cannot be probed. */
export class NoSuchTicketError extends ServiceError {
  readonly code = 'ERR_NO_SUCH_TICKET'
  readonly statusCode = 404

  constructor() {
    super('there is no such ticket')
  }
}

/** The id was removed for good: whoever installs it again does not know yet. */
export class TicketRemovedError extends ServiceError {
  readonly code = 'ERR_TICKET_REMOVED'
  readonly statusCode = 410

  constructor() {
    super('a ticket of this id was removed for good')
  }
}

/** Operations did not end in time: try again. */
export class TicketBusyError extends ServiceError {
  readonly code = 'ERR_TICKET_BUSY'
  readonly statusCode = 409

  constructor() {
    super('operations of the ticket are still waiting for storage, try again')
  }
}

/** Somebody signs more tickets than the server keeps account of. */
export class SignedTicketsBusyError extends ServiceError {
  readonly code = 'ERR_SIGNED_TICKETS_BUSY'
  readonly statusCode = 503
  readonly retryAfter = 60

  constructor() {
    super('too many signed tickets are in use, try again later')
  }
}

/** One more would have to be forgotten, and then its token would be good again. */
export class TooManyRevocationsError extends ServiceError {
  readonly code = 'ERR_TOO_MANY_REVOCATIONS'
  readonly statusCode = 503

  constructor() {
    super('there are too many revocations: remove a signing key instead')
  }
}

/** It holds until the server is restarted; after that its token would be good again. */
export class RevocationNotSavedError extends ServiceError {
  readonly code = 'ERR_REVOCATION_NOT_SAVED'
  readonly statusCode = 500

  constructor(cause: unknown) {
    super('the change holds, but could not be saved: try again', { cause })
  }
}

/**
 * A flush has failed before, or a storage server went away with writes nobody had flushed. The kernel
 * reports a lost write once and then forgets it, so a later flush that succeeds would prove nothing.
 */
export class TransferBrokenError extends ServiceError {
  readonly code = 'ERR_TRANSFER_BROKEN'
  readonly statusCode = 500

  constructor(cause: unknown) {
    super('the storage failed and may have lost written data: start over with a new ticket', {
      cause,
    })
  }
}

/**
 * Uploads ended before all was written that they had announced, and nobody wrote the rest; or what they wrote
 * may not be stored.
 */
export class UnfinishedError extends ServiceError {
  readonly code = 'ERR_UNFINISHED'
  readonly statusCode = 412

  /** `missing` in bytes. */
  constructor({ missing, isLost }: { readonly missing: number; readonly isLost: boolean }) {
    super(
      isLost
        ? 'the storage failed and may have lost what uploads had written'
        : `uploads failed or were cut off: ${missing} bytes that they should have written are missing`,
    )
  }
}
