/** What is stored of a look at the ticket: how far the transfer is, and what is known to be missing. */
import type { TicketState } from '../hosts/ticket-control.js'
import type { StoredTransfer } from '../store/records.js'
import type { Fields } from './change.js'

/** A ticket that was made again counts from 0; what was transferred before stays transferred. */
export function progressOf(transfer: StoredTransfer, state: TicketState): Fields {
  const moved = state.transferred ?? 0
  const transferred = Math.max(transfer.transferred, moved)
  const { missing, isActive } = state
  return {
    // What comes under the new ticket is what was lost with the old one.
    ...(transfer.isDoubtful === true && moved > 0 ? { isDoubtful: false } : {}),
    // Kept for a daemon that is started again, and knows nothing.
    ...(String(missing) === String(transfer.missing ?? []) ? {} : { missing }),
    ...(transferred === transfer.transferred ? {} : { transferred }),
    ...(isActive === transfer.isActive ? {} : { isActive }),
  }
}

/** Nobody tells what became of a request of an upload that was under way at the last look. */
export function unseen({ direction, isActive }: StoredTransfer): Fields {
  if (!isActive) return {}
  return { isActive: false, ...(direction === 'upload' ? { isDoubtful: true } : {}) }
}

/** Whether more was announced than is there, as far as that is known. `state` is undefined without a ticket. */
export function isIncomplete(transfer: StoredTransfer, state: TicketState | undefined): boolean {
  if (transfer.ticketId === undefined) return false // it was asked before it was removed
  if (state?.isUnfinished === true) return true
  if (state === undefined && (transfer.isActive || (transfer.missing ?? []).length > 0)) return true
  return transfer.isDoubtful === true && (state?.transferred ?? 0) === 0
}
