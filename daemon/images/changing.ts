/** A change of an image: the ticket remembers what of it was announced and never came to be. */
import {
  ContentDigestError,
  PreconditionFailedError,
  RangeNotSatisfiableError,
} from '../../core/http/errors.js'
import type { Ticket } from '../../core/tickets/ticket.js'
import type { PendingChange } from '../../core/tickets/unfinished.js'

export interface ChangedRange {
  readonly offset: number
  /** Undefined when only the end of the body will tell. */
  readonly size: number | undefined
}

/**
 * Runs `work`, which is to write or zero the range. However it fails, be it before the image is open, the
 * client may take that for success: so it is found out when the ticket is removed for good, unless
 * somebody writes what is missing.
 */
export async function changing(
  ticket: Ticket,
  range: ChangedRange,
  work: () => Promise<void>,
): Promise<void> {
  const { unfinished, limit } = ticket
  // What goes beyond the image is not announced for it, but then the image cannot be complete.
  const first = Math.max(0, Math.min(range.offset, limit - 1))
  const end = Math.min(limit, range.offset + (range.size ?? Infinity))
  const isUnsized = range.size === undefined
  const pending = unfinished.begin(first, end - first, { isUnsized })
  try {
    await work()
    // A body of chunks has written all from its beginning on.
    const [left] = pending.left.spans()
    unfinished.succeed(pending, range.size === undefined ? (left?.start ?? end) : end)
  } catch (error) {
    note(ticket, range, pending, error)
    throw error
  }
}

function note(
  { unfinished, limit }: Ticket,
  { offset, size }: ChangedRange,
  pending: PendingChange,
  error: unknown,
): void {
  if (error instanceof PreconditionFailedError) {
    unfinished.end(pending) // the client's own condition: nothing was to be written
    return
  }
  const [next] = pending.left.spans()
  const reached = next?.start ?? limit
  // All is there, and is not what it should be.
  if (error instanceof ContentDigestError) unfinished.lack(offset, size ?? reached - offset)
  // One byte stands for what nobody knows: the last one where it was too much, else the next.
  else if (size === undefined && error instanceof RangeNotSatisfiableError) {
    unfinished.lack(Math.max(0, limit - 1), 1)
  } else if (size === undefined && next !== undefined) {
    unfinished.lackMore(next.start)
  }
  if (size === undefined) unfinished.end(pending)
  else unfinished.fail(pending)
}
