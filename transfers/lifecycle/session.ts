/**
 * The session of a transfer: its NBD server and its tickets. Everything here may be done twice, in any
 * state the parts are in.
 */
import { randomUUID } from 'node:crypto'
import { DomainUnavailableError } from '../fault.js'
import {
  HostRefusedError,
  HostUnreachableError,
  loggedError,
  TicketRemovedError,
} from '../hosts/errors.js'
import type { ControlledHost } from '../hosts/hosts.js'
import type { TicketRequest, TicketState } from '../hosts/ticket-control.js'
import type { Id } from '../model.js'
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import type { Context } from './context.js'
import type { ByteRange } from '../../core/tickets/unfinished.js'
import { noteServerEnd, noteTicket } from './lost-writes.js'

/** A transfer that was given host and ticket. */
export interface Session {
  readonly transfer: StoredTransfer
  readonly disk: StoredDisk
  readonly host: ControlledHost
  readonly ticketId: Id
}

/**
 * The id to install a ticket by. One that was installed once stays, for clients have its URL. Another
 * one they were never told, and whether it is installed, or will be, is not known: it is not used again.
 */
export async function ticketIdOf(
  { hosts, logger }: Context,
  transfer: StoredTransfer,
): Promise<Id> {
  const { ticketId, sessionExpires, hostId, id } = transfer
  if (ticketId === undefined) return randomUUID()
  if (sessionExpires > 0) return ticketId
  await hosts
    .get(hostId)
    ?.tickets.removeForGood(ticketId, { knowsLoss: true })
    .catch((error: unknown) => {
      // Nobody can use it, nor renew it.
      logger.info(
        { transfer: id, ...loggedError(error) },
        'a ticket nobody knows may be left to expire',
      )
    })
  return randomUUID()
}

/** Throws HostUnreachableError when the configuration has no such host any more. */
export function hostOf({ hosts }: Context, { hostId }: StoredTransfer): ControlledHost {
  const host = hosts.get(hostId)
  if (host === undefined) throw new HostUnreachableError('the host is not configured')
  return host
}

/** Makes sure that data can flow: server, ticket of the daemon, ticket of the proxy. */
export async function openSession(context: Context, session: Session): Promise<void> {
  const url = await imageUrl(context, session)
  await installTicket(context, session, url)
  await installProxyTicket(context, session)
}

/** Where the daemon finds the image. Starts the NBD server where one is needed. */
export async function imageUrl(context: Context, session: Session): Promise<string> {
  const { transfer, disk } = session
  if (transfer.backend === 'file') {
    await context.volumes.facts(disk) // the file is still the volume, which servers look at themselves
    return context.volumes.url(disk)
  }
  await noteServerEnd(context, transfer, session.host.tickets)
  if (isNewQcow2(session)) await growVolume(context, disk)
  context.requireLease()
  const { url, isNew } = await context.nbd.start(transfer, disk)
  // Starting takes a while. Who drives the transfer by now may have finished it.
  if (isNew) await orUndo(context.requireLease, () => context.nbd.stop(transfer.id))
  return url
}

/** An upload to a disk with a qcow2 file, of whose ticket no client knows yet: nothing has come of it. */
function isNewQcow2({ transfer, disk }: Session): boolean {
  const { direction, sessionExpires } = transfer
  return direction === 'upload' && disk.format === 'cow' && sessionExpires === 0
}

/** The image in it may have been smaller than the disk, all of which can be written to. */
async function growVolume({ requireLease, volumes }: Context, disk: StoredDisk): Promise<void> {
  requireLease()
  try {
    await volumes.grow(disk)
  } catch (cause) {
    if (cause instanceof DomainUnavailableError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`the volume cannot be grown to the size of the disk: ${reason}`, { cause })
  }
}

export async function installTicket(
  context: Context,
  session: Session,
  url: string,
): Promise<void> {
  await noteTicket(context, session.transfer, session.host.tickets)
  context.requireLease()
  const { tickets } = session.host
  await tickets.install(ticketOf(context, session, url))
  await orUndo(context.requireLease, () => tickets.remove(session.ticketId))
}

/** Throws what `check` throws, when what was done is undone as far as that is possible. */
async function orUndo(check: () => void, undo: () => Promise<void>): Promise<void> {
  try {
    check()
  } catch (error) {
    await undo().catch(() => undefined)
    throw error
  }
}

/** Only the daemon is asked what is missing. */
const NOTHING_BEGUN = { missing: [], replace: false } as const

/** Clients of the API can do without the proxy; it is tried again while the transfer lasts. */
export async function installProxyTicket(context: Context, session: Session): Promise<void> {
  const { hosts, logger } = context
  const { transfer, ticketId } = session
  const url = hosts.transferUrl(transfer.hostId, ticketId)
  if (hosts.proxy === undefined || url === undefined) return
  context.requireLease()
  try {
    await hosts.proxy.install({ ...ticketOf(context, session, url), ...NOTHING_BEGUN })
  } catch (error) {
    const isRefused = error instanceof HostRefusedError && error.isRefusal
    if (isRefused) await noteRefusal(context, transfer, true)
    if (hosts.withoutProxy.has(transfer.id)) return
    hosts.withoutProxy.add(transfer.id)
    logger.warn({ transfer: transfer.id, ...loggedError(error) }, 'the proxy has no ticket')
    return
  }
  await noteRefusal(context, transfer, false)
  if (!hosts.withoutProxy.delete(transfer.id)) return
  logger.info({ transfer: transfer.id }, 'the proxy has the ticket')
}

/** Clients are not sent to a proxy that will not let them in. */
async function noteRefusal(
  context: Context,
  { id, isRefusedByProxy = false }: StoredTransfer,
  isRefused: boolean,
): Promise<void> {
  if (isRefused === isRefusedByProxy) return
  await change(context, id, { fields: { isRefusedByProxy: isRefused }, isQuiet: true })
}

/**
 * What the daemon has recorded of a ticket that it has forgotten, for who ends the upload: the ticket is
 * installed again, and nobody can use it.
 */
export async function recallTicket(
  context: Context,
  session: Session,
): Promise<TicketState | undefined> {
  const { host, disk, ticketId } = session
  const ticket = ticketOf(context, session, context.volumes.url(disk))
  context.requireLease()
  try {
    await host.tickets.install({ ...ticket, timeout: 0 })
  } catch (error) {
    // By a process that was killed before it stored that: if anything is missing, the next removal tells.
    if (error instanceof TicketRemovedError) return undefined
    throw error
  }
  return host.tickets.state(ticketId)
}

/** Throws unless the daemon has prolonged the ticket. */
export async function renewTickets(context: Context, session: Session): Promise<void> {
  const { hosts, timers } = context
  const { host, ticketId } = session
  if (!(await host.tickets.extend(ticketId, timers.ticketSeconds))) {
    throw new HostRefusedError('the daemon has no such ticket')
  }
  if (hosts.proxy === undefined) return
  const isExtended = await hosts.proxy.extend(ticketId, timers.ticketSeconds).catch(() => false)
  if (!isExtended) await installProxyTicket(context, session)
}

/**
 * Ends everything; when it resolves, nobody can touch the image any more. The daemon comes first, and
 * nothing goes on before it has said yes. The proxy's ticket is of no use without the daemon's.
 */
export async function closeSession(
  context: Context,
  transfer: StoredTransfer,
  { knowsLoss }: { readonly knowsLoss: boolean },
): Promise<void> {
  const { hosts, nbd, logger } = context
  const { id, ticketId } = transfer
  const ignore = (what: string) => (error: unknown) => {
    logger.warn({ transfer: id, ...loggedError(error) }, what)
  }
  if (ticketId !== undefined) {
    // An installation whose outcome nobody knows may be on its way, for an id that a client knows.
    await hostOf(context, transfer).tickets.removeForGood(ticketId, { knowsLoss })
    hosts.withoutProxy.delete(id)
    await hosts.proxy
      ?.removeForGood(ticketId, { knowsLoss: true })
      .catch(ignore('the ticket of the proxy is left to expire'))
    // From now on all is stored, and a server that does not run has taken nothing with it.
    await change(context, id, { fields: { ticketId: undefined }, isQuiet: true })
  }
  if (transfer.backend === 'file') return
  // Of a daemon that has forgotten the ticket nobody knows what the server still has to store.
  const isStopped = nbd.stop(id, { mayKill: knowsLoss || !transfer.isTicketForgotten })
  // What was uploaded may still be in the server, and is verified next.
  if (transfer.direction === 'upload') await isStopped
  else await isStopped.catch(ignore('the NBD server cannot be stopped'))
}

function ticketOf({ timers }: Context, session: Session, url: string): TicketRequest {
  const { transfer, disk, ticketId } = session
  return {
    uuid: ticketId,
    size: transfer.size,
    ops: [transfer.direction === 'upload' ? 'write' : 'read'],
    timeout: timers.ticketSeconds,
    // 0 is "never" here, and not allowed there.
    inactivity_timeout: transfer.inactivityTimeout || NEVER_SECONDS,
    url,
    transfer_id: transfer.id,
    sparse: disk.sparse,
    ...begun(session),
    dirty: false,
  }
}

/**
 * What has to come of an upload. A daemon that had the ticket before has recorded what came of it, and heeds
 * that alone. Another one, or one whose records are gone, is told that all has to come, since nobody knows
 * what did: a qcow2 file from its beginning, which empties the volume. That it does in any case before the
 * first byte comes: should half of a new file come, the rest of the one that was there, the empty one of a
 * new disk or another image, must not complete it.
 */
function begun({ transfer, disk }: Session): Pick<TicketRequest, 'replace' | 'missing'> {
  const { backend, direction, size, sessionExpires } = transfer
  if (direction === 'download') return {}
  const isQcow2 = backend === 'file' && disk.format === 'cow'
  const all: ByteRange = [0, isQcow2 ? 1 : size]
  return { replace: isQcow2, missing: sessionExpires === 0 ? [] : [all] }
}

/** Three weeks: Node's timers count milliseconds in 31 bits. */
const NEVER_SECONDS = 1_814_400
