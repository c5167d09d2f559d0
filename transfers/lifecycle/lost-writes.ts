/**
 * Uploads whose storage failed under them. The daemon refuses whatever such a ticket asks for, but it
 * forgets that when it ends, and a client may finalize all the same: so it is stored, and final.
 */
import type { TicketState } from '../hosts/ticket-control.js'
import type { StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import type { Context } from './context.js'

export const LOST_WRITES = 'writes were lost: the storage failed before they were flushed'

/** Whether writes are lost. `state` is what the daemon says of the ticket, as far as it says anything. */
export async function noteLostWrites(
  context: Context,
  transfer: StoredTransfer,
  state: TicketState | undefined,
): Promise<boolean> {
  if (transfer.hasLostWrites || transfer.direction === 'download') return transfer.hasLostWrites
  if (state?.isBroken !== true) return false
  await storeLostWrites(context, transfer)
  return true
}

export async function storeLostWrites(context: Context, { id }: StoredTransfer): Promise<void> {
  context.logger.error({ transfer: id }, LOST_WRITES)
  await change(context, id, { fields: { hasLostWrites: true, message: LOST_WRITES } })
}
