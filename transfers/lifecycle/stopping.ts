/** The chains that end a transfer. Each step may be done again after a crash. */
import { DomainUnavailableError, NotStoredError } from '../fault.js'
import { loggedError, TicketUnfinishedError } from '../hosts/errors.js'
import type { TicketState } from '../hosts/ticket-control.js'
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import type { Context, Next } from './context.js'
import { fateOf, type Fate } from './fate.js'
import type { Memory } from './memory.js'
import type { Verdict } from './ports.js'
import {
  CUT_OFF,
  LOST_WRITES,
  noteForgotten,
  noteLostWrites,
  noteServerEnd,
  storeLostWrites,
  UNFINISHED,
} from './lost-writes.js'
import { reasonOf } from './preparing.js'
import { progressOf } from './progress.js'
import { closeSession, hostOf, recallTicket } from './session.js'

/** One line of the log per so many failures: it is tried every second, for ever. */
const LOG_EVERY = 60
/** After so many a disk that cannot be removed is kept. */
const MAX_FAILED_REMOVALS = 5
/** A minute of tries, one per poll: storage that comes back later than that is an administrator's. */
const MAX_FAILED_VERIFICATIONS = 60

/** How long an upload that is finalized waits for requests that are under way. */
const ACTIVE_MS = 30_000

/** finalizing_success, finalizing_cleanup, finalizing_failure. */
export async function stop(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  const { logger } = context
  const { id } = transfer
  let transferred: number
  let isLost: boolean
  let reason = transfer.hasLostWrites ? transfer.message : undefined
  try {
    // All that is known is stored before the ticket goes: nothing is known when the daemon does not answer.
    const state = await lastState(context, transfer)
    transferred = Math.max(transfer.transferred, state?.transferred ?? 0)
    if (isBusy(context, transfer, state, memory)) return 'later'
    isLost = await noteLostWrites(context, transfer, state)
    const isAsked = !isLost && isUploaded(transfer)
    const known = isAsked ? (state ?? (await recall(context, transfer, disk))) : undefined
    const incomplete = isAsked ? whyIncomplete(known) : undefined
    if (incomplete !== undefined) {
      await storeLostWrites(context, transfer, incomplete)
      isLost = true
      reason = incomplete
    }
    const isForgotten =
      transfer.ticketId === undefined
        ? transfer.isTicketForgotten
        : await noteForgotten(context, transfer, state)
    const host = context.hosts.get(transfer.hostId)
    const noted = { ...transfer, isTicketForgotten: isForgotten }
    if (host !== undefined && !isLost) isLost = await noteServerEnd(context, noted, host.tickets)
    // The ticket goes next: a restart finds none, and must not take that for one that was lost.
    const progress = state === undefined ? {} : progressOf(transfer, state)
    if (Object.keys(progress).length > 0) {
      await change(context, id, { fields: progress, isQuiet: true })
    }
    // What is missing matters to who finalizes; who gives the image up need not be told.
    await closeSession(context, noted, { knowsLoss: isLost || !isUploaded(transfer) })
  } catch (error) {
    if (error instanceof TicketUnfinishedError) {
      // While it closed the image, or a process before this one did.
      const isBroken = (await lastState(context, transfer).catch(() => undefined))?.isBroken
      await storeLostWrites(context, transfer, isBroken === true ? LOST_WRITES : UNFINISHED)
      return 'again'
    }
    if (memory.failedStops++ % LOG_EVERY === 0) {
      logger.warn({ transfer: id, ...loggedError(error) }, 'the session cannot be stopped yet')
    }
    return 'later'
  }
  memory.failedStops = 0
  const fields = { ticketId: undefined, isActive: false, transferred }
  switch (transfer.phase) {
    case 'finalizing_failure':
      return fail(context, { ...transfer, transferred }, disk, memory, 'stopped')
    case 'finalizing_success':
      await change(context, id, { event: 'stopped', fields })
      if (transfer.direction === 'download') return 'again'
      if (!isLost) return verify(context, transfer, disk, memory)
      await change(context, id, {
        event: 'refused',
        fields: refused(reason ?? LOST_WRITES),
      })
      return 'again'
    default:
      await change(context, id, { event: 'stopped', fields })
      return 'again'
  }
}

function isUploaded({ phase, direction }: StoredTransfer): boolean {
  return phase === 'finalizing_success' && direction === 'upload'
}

/** Undefined when all is there that requests had announced. There is no state when the ticket is gone for good. */
function whyIncomplete(state: TicketState | undefined): string | undefined {
  if (state?.isBroken === true) return LOST_WRITES
  // What it has left to do may be there by others: its client may have lost it and begun again.
  if (state?.isActive === true && state.pending > 0) return CUT_OFF
  return state?.isUnfinished === true ? UNFINISHED : undefined
}

/** Who finalizes while a request still writes has not all of the image there: it may end first. */
function isBusy(
  { clock }: Context,
  transfer: StoredTransfer,
  state: TicketState | undefined,
  memory: Memory,
): boolean {
  if (!isUploaded(transfer) || state?.isActive !== true || state.isCanceled) return false
  const now = clock.elapsed()
  memory.activeSince ??= now
  return now - memory.activeSince < ACTIVE_MS
}

/** What was transferred since the last look, and whether it was lost, goes with the ticket. */
async function lastState(
  { hosts }: Context,
  { hostId, ticketId }: StoredTransfer,
): Promise<TicketState | undefined> {
  if (ticketId === undefined) return undefined
  return hosts.get(hostId)?.tickets.state(ticketId)
}

/** A daemon that was started again has its records; a client may finalize before its ticket is back. */
async function recall(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
): Promise<TicketState | undefined> {
  const { ticketId, sessionExpires } = transfer
  if (ticketId === undefined || disk === undefined || sessionExpires === 0) return undefined
  return recallTicket(context, { transfer, disk, host: hostOf(context, transfer), ticketId })
}

/** finished_cleanup: what a cancelled upload has written is removed. */
export function cleanUp(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  return fail(context, transfer, disk, memory, 'proceed')
}

/** Nobody can write to it any more. */
async function verify(
  context: Context,
  { id }: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  if (disk === undefined) {
    await change(context, id, { event: 'refused', fields: refused('the disk is gone') })
    return 'again'
  }
  let verdict: Verdict
  try {
    await flush(context, disk)
    verdict = await context.verifier.verify(disk)
  } catch (error) {
    if (error instanceof DomainUnavailableError) return 'later'
    if (error instanceof NotStoredError) {
      context.logger.error({ transfer: id, err: error }, LOST_WRITES)
      await change(context, id, { event: 'refused', fields: refused(LOST_WRITES) })
      return 'again'
    }
    if (++memory.failedVerifications < MAX_FAILED_VERIFICATIONS) throw error
    const message = `the image cannot be verified: ${reasonOf(error)}`
    await change(context, id, { event: 'refused', fields: { isUnverified: true, message } })
    return 'again'
  }
  if (!verdict.ok) {
    await change(context, id, { event: 'refused', fields: refused(verdict.reason) })
    return 'again'
  }
  const { qcowVersion, actualSize } = verdict
  const facts = {
    ...(qcowVersion === undefined ? {} : { qcowVersion }),
    ...(actualSize === undefined ? {} : { actualSize }),
  }
  await change(context, id, { event: 'verified', fields: { message: undefined }, disk: facts })
  return 'again'
}

/** What the verifier finds out as well, and says better: none there, a link. */
const NO_VOLUME: ReadonlySet<unknown> = new Set(['ENOENT', 'ELOOP', undefined])

/** Also what its client did not flush. Rejects when that cannot be told now. */
async function flush({ volumes }: Context, disk: StoredDisk): Promise<void> {
  try {
    await volumes.flush(disk)
  } catch (error) {
    if (error instanceof DomainUnavailableError || error instanceof NotStoredError) throw error
    if (!NO_VOLUME.has((error as NodeJS.ErrnoException).code)) throw error
  }
}

function refused(reason: string): { isRefused: true; message: string } {
  return { isRefused: true, message: `the image was refused: ${reason}` }
}

/** The file goes before the final phase is seen: clients delete or create the disk right after that. */
async function fail(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
  event: 'stopped' | 'proceed',
): Promise<Next> {
  let fate: Fate = disk === undefined ? 'remove' : fateOf(transfer, disk, context.policies)
  let message = transfer.message
  if (disk !== undefined && fate === 'remove') {
    context.requireLease()
    try {
      await context.volumes.remove(disk)
    } catch (error) {
      if (error instanceof DomainUnavailableError) return 'later'
      context.logger.error({ disk: disk.id, err: error }, 'the volume cannot be removed')
      if (++memory.failedRemovals < MAX_FAILED_REMOVALS) return 'later'
      fate = 'illegal'
      message = `the disk cannot be removed: ${reasonOf(error)}`
    }
  }
  const { transferred } = transfer
  const fields = { ticketId: undefined, isActive: false, transferred, message }
  await change(context, transfer.id, { event, fields, fate })
  return 'again'
}
