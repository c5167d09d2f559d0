/** When a transfer has been forgotten by its client (transfer-lifecycle.md, 6). */
import type { TicketState } from '../hosts/ticket-control.js'
import type { Transfer } from '../model.js'

/**
 * The daemon measures how long the ticket was idle. `extend` and `resume` are signs of life as well,
 * and so is the beginning of the session.
 */
export function isInactive(
  { inactivityTimeout, lastExtended, updatedAt }: Transfer,
  { isActive, idleMs }: TicketState,
  now: number,
): boolean {
  if (inactivityTimeout === 0 || isActive) return false
  const idle = Math.min(idleMs ?? now - updatedAt, now - lastExtended)
  return idle > inactivityTimeout * 1000
}
