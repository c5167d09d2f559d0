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
    // The daemon has not lost it after all, or has got it with the doubt: it knows what is missing.
    ...(transfer.isDoubtful === true ? { isDoubtful: false } : {}),
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

/** Its daemon has lost the ticket while a request was under way, as far as anybody has seen. */
export function isInDoubt({ direction, isActive, isDoubtful }: StoredTransfer): boolean {
  return direction === 'upload' && (isActive || isDoubtful === true)
}

/** Whether more was announced than is there, as far as that is known. `state` is undefined without a ticket. */
export function isIncomplete(transfer: StoredTransfer, state: TicketState | undefined): boolean {
  if (transfer.ticketId === undefined) return false // it was asked before it was removed
  if (state !== undefined) return state.isUnfinished
  return isInDoubt(transfer) || (transfer.missing ?? []).length > 0
}
