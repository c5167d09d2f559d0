/** Records for tests; what is not given is valid. */
import type { TicketState } from '../../transfers/hosts/ticket-control.js'
import { randomUUID } from 'node:crypto'
import type { StoredDisk, StoredTransfer } from '../../transfers/store/records.js'

export function someDisk(fields: Partial<StoredDisk> = {}): StoredDisk {
  return {
    id: randomUUID(),
    imageId: randomUUID(),
    name: 'disk',
    description: '',
    format: 'raw',
    provisionedSize: 65536,
    initialSize: undefined,
    sparse: true,
    backup: 'none',
    contentType: 'data',
    shareable: false,
    propagateErrors: false,
    wipeAfterDelete: false,
    storageDomainId: 'domain',
    status: 'ok',
    lockedBy: undefined,
    statusBeforeLock: undefined,
    qcowVersion: undefined,
    actualSize: 0,
    owner: undefined,
    hasData: false,
    ...fields,
  }
}

export function someTransfer(fields: Partial<StoredTransfer> = {}): StoredTransfer {
  return {
    id: randomUUID(),
    createdAt: 1000,
    updatedAt: 1000,
    phase: 'initializing',
    direction: 'upload',
    diskId: randomUUID(),
    hostId: undefined,
    isHostFixed: false,
    ticketId: undefined,
    requestedFormat: undefined,
    format: 'raw',
    backend: 'file',
    shallow: false,
    inactivityTimeout: 60,
    timeoutPolicy: 'legacy',
    size: 65536,
    transferred: 0,
    isActive: false,
    sessionExpires: 0,
    renewalFailures: 0,
    lastExtended: 1000,
    message: undefined,
    version: 0,
    owner: undefined,
    wasStarted: false,
    isRefused: false,
    hasLostWrites: false,
    isTicketForgotten: false,
    isUnverified: false,
    ...fields,
  }
}

/** What a daemon tells of a ticket that nobody has used. */
export const UNTOUCHED: TicketState = {
  isActive: false,
  isCanceled: false,
  isBroken: false,
  isUnfinished: false,
  pending: 0,
  transferred: 0,
  idleMs: 0,
}
