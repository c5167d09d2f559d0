/** What is stored of a look at the ticket: how far the transfer is. */
import type { TicketState } from '../hosts/ticket-control.js'
import type { StoredTransfer } from '../store/records.js'
import type { Fields } from './change.js'

/** A ticket that was made again counts from 0; what was transferred before stays transferred. */
export function progressOf(
  transfer: StoredTransfer,
  state: Pick<TicketState, 'transferred' | 'isActive'>,
): Fields {
  const transferred = Math.max(transfer.transferred, state.transferred ?? 0)
  const { isActive } = state
  return {
    ...(transferred === transfer.transferred ? {} : { transferred }),
    ...(isActive === transfer.isActive ? {} : { isActive }),
  }
}
