/** Records from what a client has asked for. Throws FaultError for what cannot be. */
import { randomUUID } from 'node:crypto'
import { DomainUnavailableError, FaultError } from './fault.js'
import type { DiskChange, DiskFormat, Id, NewDisk, NewTransfer, StorageDomain } from './model.js'
import type { StoredDisk, StoredTransfer } from './store/records.js'

/**
 * What no storage could hold: an L1 table of qcow2, with the clusters of 64 KiB that volumes have, describes
 * no more than 2 PiB, and the length of a file, in whole sectors, is counted exactly. File systems have
 * limits of their own, below.
 */
const LARGEST: Readonly<Record<DiskFormat, number>> = { cow: 2 ** 51, raw: 2 ** 53 - 512 }

/** Locked until its volume exists. */
export function newDisk(
  request: NewDisk,
  id: Id,
  domains: readonly StorageDomain[],
  owner: Id,
): StoredDisk {
  const { storageDomain, imageId, name, ...rest } = request
  const domain = findDomain(storageDomain, domains)
  requirePossible(request)
  requireActive(domain)
  if (!rest.sparse && rest.provisionedSize > domain.available) {
    throw conflict(`The storage domain has no room for ${rest.provisionedSize} bytes.`)
  }
  return {
    ...rest,
    id,
    imageId: imageId ?? randomUUID(),
    name: name ?? id,
    storageDomainId: domain.id,
    status: 'locked',
    lockedBy: 'creation',
    statusBeforeLock: undefined,
    qcowVersion: undefined,
    actualSize: 0,
    owner,
    hasData: false,
  }
}

export function newTransfer(
  request: NewTransfer,
  disk: StoredDisk,
  owner: Id,
  now: number,
): StoredTransfer {
  const { direction, format, hostId, shallow, inactivityTimeout, timeoutPolicy } = request
  if (format === 'cow' && disk.format === 'raw') {
    throw new FaultError(
      400,
      'Invalid value',
      'A raw disk has no data in format cow; use raw, or leave format out.',
    )
  }
  return {
    id: randomUUID(),
    createdAt: now,
    updatedAt: now,
    phase: 'initializing',
    direction,
    diskId: disk.id,
    hostId,
    isHostFixed: hostId !== undefined,
    ticketId: undefined,
    requestedFormat: format,
    format: format ?? disk.format,
    // By what was asked for: without a format the bytes of the file are meant, whatever they are. Those
    // of a raw disk are the guest's data, which any host can move.
    backend: format === 'raw' && disk.format !== 'raw' ? 'nbd' : 'file',
    shallow,
    inactivityTimeout,
    timeoutPolicy,
    size: disk.provisionedSize,
    transferred: 0,
    isActive: false,
    sessionExpires: 0,
    renewalFailures: 0,
    lastExtended: now,
    message: undefined,
    version: 0,
    owner,
    wasStarted: false,
    hasLostWrites: false,
    isTicketForgotten: false,
    isRefused: false,
    isUnverified: false,
  }
}

/** Throws FaultError that says why it is not, without a path. */
export function requireActive(domain: StorageDomain | undefined): void {
  if (domain?.status === 'active') return
  const { problem = domain?.status ?? 'the configuration has none of its id' } = domain ?? {}
  throw new DomainUnavailableError(problem)
}

/** Unchanged but for its lock when its volume has to grow first. */
export function changedDisk(change: DiskChange, disk: StoredDisk, owner: Id): StoredDisk {
  const changed = { ...disk, ...change }
  requirePossible(changed)
  if (changed.provisionedSize === disk.provisionedSize) return changed
  if (changed.provisionedSize < disk.provisionedSize)
    throw conflict('A disk can only grow; provisioned_size must not be less than it is.')
  if (disk.status !== 'ok')
    throw conflict(
      'The disk is illegal, it holds no valid image; remove it, and upload to a new one.',
    )
  const lock = { status: 'locked', lockedBy: 'growth', statusBeforeLock: disk.status } as const
  return { ...disk, ...lock, pending: change, owner }
}

function requirePossible({
  format,
  sparse,
  backup,
  provisionedSize,
}: Pick<NewDisk, 'format' | 'sparse' | 'backup' | 'provisionedSize'>): void {
  const largest = LARGEST[format]
  if (provisionedSize > largest) {
    const detail = `A disk of format ${format} has at most ${largest} bytes.`
    throw new FaultError(400, 'Invalid value', detail)
  }
  if (format === 'raw' && backup === 'incremental') {
    throw conflict('Incremental backup needs format cow; use that, or backup none.')
  }
  if (format === 'cow' && !sparse && backup !== 'incremental') {
    throw conflict('A disk of format cow is sparse; leave sparse out, or use format raw.')
  }
}

function findDomain(
  wanted: NewDisk['storageDomain'],
  domains: readonly StorageDomain[],
): StorageDomain {
  if (wanted === undefined) {
    const [only, ...others] = domains
    if (only !== undefined && others.length === 0) return only
    throw new FaultError(400, 'Incomplete parameters', 'Disk [storageDomains] required for add')
  }
  const found = domains.find((domain) =>
    'id' in wanted ? domain.id === wanted.id : domain.name === wanted.name,
  )
  if (found !== undefined) return found
  const which = 'id' in wanted ? wanted.id : wanted.name
  const detail = `There is no storage domain ${which}; see /storagedomains.`
  throw new FaultError(404, 'Not Found', detail)
}

function conflict(detail: string): FaultError {
  return new FaultError(409, 'Operation Failed', detail)
}
