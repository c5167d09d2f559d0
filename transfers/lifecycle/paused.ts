/** A transfer that is paused keeps its ticket for as long as that lives, and clients may go on to use it. */
import type { TicketState } from '../hosts/ticket-control.js'
import type { StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import type { Context, Next } from './context.js'
import { noteLostWrites } from './lost-writes.js'
import type { Memory } from './memory.js'
import { progressOf } from './progress.js'

const WHILE_PAUSED = ['paused_user', 'paused_system'] as const

/** What moves is shown, and changes nothing; after a while somebody is reminded of the lock. */
export async function wait(
  context: Context,
  transfer: StoredTransfer,
  memory: Memory,
): Promise<Next> {
  const { clock, logger, timers } = context
  const { id, phase, sessionExpires } = transfer
  if (clock.elapsed() - memory.pauseLoggedAt >= timers.pauseLogMs) {
    memory.pauseLoggedAt = clock.elapsed()
    logger.info({ transfer: id, phase }, 'still paused, its disk is locked')
  }
  const ticketMs = timers.ticketSeconds * 1000
  const hasTicket = memory.renewed.age(sessionExpires - ticketMs, clock) < ticketMs
  if (!hasTicket && !transfer.isActive) return 'paused'
  const state = await stateOf(context, transfer)
  const seen = state ?? { isActive: false, transferred: undefined }
  await noteLostWrites(context, transfer, state)
  const fields = progressOf(transfer, seen)
  if (Object.keys(fields).length > 0) await change(context, id, { onlyIn: WHILE_PAUSED, fields })
  return hasTicket || state?.isActive === true ? 'later' : 'paused'
}

/** Undefined also when nobody answers: whether that matters, resume will find out. */
async function stateOf(
  { hosts }: Context,
  { hostId, ticketId }: StoredTransfer,
): Promise<TicketState | undefined> {
  if (ticketId === undefined) return undefined
  return hosts
    .get(hostId)
    ?.tickets.state(ticketId)
    .catch(() => undefined)
}
