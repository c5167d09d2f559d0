/** When a transfer has been forgotten by its client (transfer-lifecycle.md, 6). */
import type { TicketState } from '../hosts/ticket-control.js'
import type { Transfer } from '../model.js'

/** Milliseconds. */
export interface SignsOfLife {
  readonly sinceExtended: number
  readonly sinceUpdated: number
}

/**
 * The daemon measures how long the ticket was idle. `extend` and `resume` are signs of life as well,
 * and so is the beginning of the session.
 */
export function isInactive(
  { inactivityTimeout }: Pick<Transfer, 'inactivityTimeout'>,
  { isActive, idleMs }: TicketState,
  { sinceExtended, sinceUpdated }: SignsOfLife,
): boolean {
  if (inactivityTimeout === 0 || isActive) return false
  const idle = Math.min(idleMs ?? sinceUpdated, sinceExtended)
  return idle > inactivityTimeout * 1000
}
