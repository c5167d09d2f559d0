/** A look at a transfer whose data may flow. */
import { DomainUnavailableError } from '../fault.js'
import { HostUnreachableError, loggedError } from '../hosts/errors.js'
import type { TicketState } from '../hosts/ticket-control.js'
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import { change, type Fields } from './change.js'
import { LeaseLostError, type Context, type Next } from './context.js'
import type { Memory } from './memory.js'
import { freshSession, reasonOf } from './preparing.js'
import { progressOf } from './progress.js'
import { isInactive } from './inactivity.js'
import { noteLostWrites } from './lost-writes.js'
import { keepServer } from './nbd-server.js'
import {
  hostOf,
  imageUrl,
  installProxyTicket,
  installTicket,
  renewTickets,
  type Session,
} from './session.js'

/** Failures in a row that a ticket may have, in being made again or in being renewed. */
const MAX_FAILURES = 2

const WHILE_TRANSFERRING = ['transferring'] as const

export async function poll(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  const { ticketId } = transfer
  if (ticketId === undefined || disk === undefined) {
    return lose(context, transfer, 'there is no ticket, or no disk')
  }
  let session: Session
  let state: TicketState | undefined
  try {
    session = { transfer, disk, host: hostOf(context, transfer), ticketId }
    state = await session.host.tickets.state(ticketId)
    memory.unreachableSince = undefined
  } catch (error) {
    return outOfReach(context, transfer, memory, error)
  }
  await noteLostWrites(context, transfer, state)
  if (!(await keepServer(context, session, memory))) {
    return lose(context, transfer, 'the NBD server does not stay alive')
  }
  if (state === undefined || state.isCanceled) return installAgain(context, session, memory)
  memory.failedTickets = 0
  const progress = progressOf(transfer, state)
  const renewal = await renew(context, session, memory)
  if (renewal === 'lost') return lose(context, transfer, 'the ticket cannot be renewed')
  if (Object.keys({ ...progress, ...renewal }).length > 0) {
    await change(context, transfer.id, {
      onlyIn: WHILE_TRANSFERRING,
      fields: { ...progress, ...renewal },
      isQuiet: Object.keys(progress).length === 0,
    })
  }
  const { clock } = context
  const sinceExtended = memory.extended.age(transfer.lastExtended, clock)
  const sinceUpdated = memory.updated.age(transfer.updatedAt, clock)
  if (!isInactive(transfer, state, { sinceExtended, sinceUpdated })) return 'later'
  const message = `nobody used the ticket for ${transfer.inactivityTimeout} s`
  await change(context, transfer.id, {
    onlyIn: WHILE_TRANSFERRING,
    event: 'inactive',
    fields: { message },
  })
  return 'again'
}

/** Kept for a while: the daemon may be about to start again, and clients wait for it as well. */
async function outOfReach(
  context: Context,
  transfer: StoredTransfer,
  memory: Memory,
  error: unknown,
): Promise<Next> {
  const { clock, timers, logger } = context
  const now = clock.elapsed()
  if (memory.unreachableSince === undefined) {
    memory.unreachableSince = now
    logger.warn(
      { transfer: transfer.id, ...loggedError(error) },
      'the host does not tell of the ticket',
    )
  }
  if (now - memory.unreachableSince < timers.graceMs) return 'later'
  memory.unreachableSince = undefined
  const what = error instanceof HostUnreachableError ? 'the host is out of reach' : 'the host fails'
  return lose(context, transfer, `${what}: ${reasonOf(error)}`)
}

/** A daemon that was started again has lost its tickets. The client's URL stays what it is. */
async function installAgain(context: Context, session: Session, memory: Memory): Promise<Next> {
  const { transfer } = session
  const log = { transfer: transfer.id }
  try {
    await installTicket(context, session, await imageUrl(context, session))
    context.logger.warn(log, 'the daemon had lost the ticket and has it again')
  } catch (error) {
    if (error instanceof LeaseLostError) throw error
    if (error instanceof DomainUnavailableError) return 'later'
    memory.failedTickets++
    context.logger.warn({ ...log, ...loggedError(error) }, 'the daemon has lost the ticket')
    if (memory.failedTickets < MAX_FAILURES) return 'later'
    memory.failedTickets = 0
    return lose(context, transfer, `the ticket cannot be installed again: ${reasonOf(error)}`)
  }
  await installProxyTicket(context, session)
  const { sessionExpires, renewalFailures } = freshSession(context)
  await change(context, transfer.id, {
    onlyIn: WHILE_TRANSFERRING,
    fields: { sessionExpires, renewalFailures, isActive: false },
    isQuiet: true,
  })
  return 'later'
}

async function renew(context: Context, session: Session, memory: Memory): Promise<Fields | 'lost'> {
  const { clock, timers, logger } = context
  const { transfer, ticketId } = session
  const now = clock.elapsed()
  const ticketMs = timers.ticketSeconds * 1000
  const sinceRenewal = memory.renewed.age(transfer.sessionExpires - ticketMs, clock)
  if (sinceRenewal < ticketMs - timers.renewalMs) {
    if (now - memory.proxyCheckedAt < timers.proxyCheckMs) return {}
    memory.proxyCheckedAt = now
    const proxied = await context.hosts.proxy?.state(ticketId).catch(() => undefined)
    if (proxied === undefined) await installProxyTicket(context, session)
    return {}
  }
  memory.proxyCheckedAt = now
  try {
    await renewTickets(context, session)
    return { sessionExpires: clock.now() + ticketMs, renewalFailures: 0 }
  } catch (error) {
    if (error instanceof LeaseLostError) throw error
    const renewalFailures = transfer.renewalFailures + 1
    logger.warn(
      { transfer: transfer.id, ...loggedError(error), renewalFailures },
      'the ticket is not renewed',
    )
    return renewalFailures < MAX_FAILURES ? { renewalFailures } : 'lost'
  }
}

async function lose(context: Context, transfer: StoredTransfer, message: string): Promise<Next> {
  const fields = { message, renewalFailures: 0, isActive: false }
  await change(context, transfer.id, { onlyIn: WHILE_TRANSFERRING, event: 'session lost', fields })
  return 'again'
}
