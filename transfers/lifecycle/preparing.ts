/** From `initializing` to a session. */
import { DomainUnavailableError } from '../fault.js'
import type { ControlledHost } from '../hosts/hosts.js'
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import { LeaseLostError, type Context, type Next } from './context.js'
import { finishRemoval } from './disk-work.js'
import { fateOf } from './fate.js'
import type { Memory } from './memory.js'
import { openSession, ticketIdOf, type Session } from './session.js'
import { ticketSize } from './ticket-size.js'

export async function prepare(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  const { clock, timers } = context
  if (disk === undefined) return giveUp(context, transfer, disk, 'the disk is gone')
  const host = findHost(context, transfer)
  if (host === undefined) {
    // There was one when the transfer was asked for.
    if (clock.elapsed() - memory.since < timers.graceMs) return 'later'
    return giveUp(context, transfer, disk, 'no usable host')
  }
  let session: Session
  try {
    session = await assign(context, transfer, disk, host)
  } catch (error) {
    if (error instanceof VolumeError) return giveUp(context, transfer, disk, error.message)
    // It comes back with all that it has; meanwhile a client may cancel.
    if (error instanceof DomainUnavailableError) return 'later'
    throw error
  }
  // A client may have cancelled. Paused, it still gets its ticket.
  const { phase } = session.transfer
  if (phase !== 'initializing' && phase !== 'paused_user') return 'again'
  try {
    await openSession(context, session)
  } catch (error) {
    if (error instanceof LeaseLostError) throw error
    if (error instanceof DomainUnavailableError) return 'later'
    // After a restart of the whole machine the daemon may come later than this service.
    if (memory.isRecovered && clock.elapsed() - memory.since < timers.graceMs) return 'later'
    await stopServer(context, session.transfer)
    const message = `the session cannot be set up: ${reasonOf(error)}`
    await change(context, transfer.id, { event: 'setup failed', fields: { message } })
    return 'again'
  }
  await change(context, transfer.id, { event: 'prepared', fields: freshSession(context) })
  return 'again'
}

/** Later than this a client has ended it. */
const STARTABLE = ['initializing', 'paused_user', 'resuming'] as const

/** Stored before anything is done with it: what a crash leaves behind can be found by it. */
export async function assign(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk,
  host: ControlledHost,
): Promise<Session> {
  const size = ticketSize(transfer, disk, await lengthOf(context, disk))
  const ticketId = await ticketIdOf(context, transfer)
  const fields = { hostId: host.settings.id, ticketId, size, wasStarted: true }
  const stored = await change(context, transfer.id, { fields, onlyIn: STARTABLE })
  return { transfer: stored, disk, host, ticketId }
}

/** A transfer keeps its host: there its ticket may be. One it was only promised may be down by now. */
export function findHost({ hosts }: Context, transfer: StoredTransfer): ControlledHost | undefined {
  if (transfer.wasStarted) return hosts.get(transfer.hostId)
  const host = hosts.get(transfer.hostId)
  if (host?.isUp === true) return host
  return transfer.isHostFixed ? undefined : hosts.choose(transfer.backend)
}

/** What a transfer has whose tickets are new. */
export function freshSession({ clock, timers }: Context): {
  readonly sessionExpires: number
  readonly lastExtended: number
  readonly renewalFailures: number
  readonly message: undefined
} {
  const now = clock.now()
  return {
    sessionExpires: now + timers.ticketSeconds * 1000,
    lastExtended: now,
    renewalFailures: 0,
    message: undefined,
  }
}

/** Nothing was started, so there is nothing to clean up but a disk that only this upload was for. */
async function giveUp(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  message: string,
): Promise<Next> {
  if (transfer.wasStarted) {
    await change(context, transfer.id, { event: 'setup failed', fields: { message } })
    return 'again'
  }
  const fate = disk && fateOf(transfer, disk, context.policies)
  const { phase } = await change(context, transfer.id, {
    event: 'unusable',
    fields: { message },
    // Not before: a client that was faster has moved it on to another end.
    fate: fate === 'remove' ? 'remove later' : (fate ?? 'restore'),
  })
  if (phase === 'finished_failure' && fate === 'remove')
    await finishRemoval(context, transfer.diskId)
  return 'again'
}

class VolumeError extends Error {}

async function lengthOf({ volumes }: Context, disk: StoredDisk): Promise<number> {
  try {
    return (await volumes.facts(disk)).length
  } catch (cause) {
    if (cause instanceof DomainUnavailableError) throw cause
    throw new VolumeError(`the volume cannot be opened: ${reasonOf(cause)}`, { cause })
  }
}

async function stopServer(
  { nbd, logger }: Context,
  { id, backend }: StoredTransfer,
): Promise<void> {
  if (backend === 'file') return
  await nbd.stop(id).catch((error: unknown) => {
    logger.warn({ transfer: id, err: error }, 'the NBD server cannot be stopped')
  })
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
