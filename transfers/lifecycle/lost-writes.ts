/**
 * Uploads whose storage failed under them. The daemon refuses whatever such a ticket asks for, but it
 * forgets that when it ends, and a client may finalize all the same: so it is stored, and final.
 */
import type { TicketControl, TicketState } from '../hosts/ticket-control.js'
import type { StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import type { Context } from './context.js'

export const LOST_WRITES = 'writes were lost: the storage failed before they were flushed'
export const CUT_OFF = 'a request was still under way when the transfer was finalized'
export const UNFINISHED =
  'an upload failed or was cut off, and what it should have written was not sent again'

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

/**
 * The NBD server of an upload may have taken with it what it had acknowledged and not stored. Called where
 * it should run and does not: before another one starts, and before the upload ends. The daemon knows
 * what was not flushed, if it is the one that served all of it; else nobody does, and the worst is
 * supposed.
 */
export async function noteServerEnd(
  context: Context,
  transfer: StoredTransfer,
  daemon: Pick<TicketControl, 'state'>,
): Promise<boolean> {
  const { backend, direction, sessionExpires, ticketId, isTicketForgotten } = transfer
  const hasServed = backend === 'nbd' && sessionExpires > 0
  if (!hasServed || direction === 'download' || transfer.hasLostWrites)
    return transfer.hasLostWrites
  // A daemon that knew the ticket has had all flushed when it removed it.
  if (ticketId === undefined && !isTicketForgotten) return false
  if (await context.nbd.isAlive(transfer.id)) return false
  const state = ticketId === undefined ? undefined : await daemon.state(ticketId)
  if (state?.isBroken === false && !isTicketForgotten) return false
  await storeLostWrites(context, transfer)
  return true
}

/**
 * Called before a ticket is installed once more: what the daemon knew of the one before, or that it has
 * forgotten it.
 */
export async function noteTicket(
  context: Context,
  transfer: StoredTransfer,
  daemon: Pick<TicketControl, 'state'>,
): Promise<void> {
  const { backend, direction, sessionExpires, ticketId } = transfer
  if (backend !== 'nbd' || direction === 'download' || sessionExpires === 0) return
  const state = ticketId === undefined ? undefined : await daemon.state(ticketId)
  await noteLostWrites(context, transfer, state)
  await noteForgotten(context, transfer, state)
}

/**
 * A daemon that has forgotten the ticket of an upload will not flush what it had not: whether that is stored
 * depends on how the NBD server ends. True when it is so.
 */
export async function noteForgotten(
  context: Context,
  { id, backend, direction, sessionExpires, isTicketForgotten }: StoredTransfer,
  state: TicketState | undefined,
): Promise<boolean> {
  if (backend !== 'nbd' || direction === 'download' || sessionExpires === 0) return false
  if (isTicketForgotten) return true
  if (state !== undefined) return false
  await change(context, id, { fields: { isTicketForgotten: true }, isQuiet: true })
  return true
}

/** Of a write that is cut off now: whatever becomes of this process, the disk does not become ok. */
export async function storeLostWrites(
  context: Context,
  { id }: StoredTransfer,
  message = LOST_WRITES,
): Promise<void> {
  context.logger.error({ transfer: id }, message)
  await change(context, id, { fields: { hasLostWrites: true, message } })
}
