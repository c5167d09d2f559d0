/** What becomes of a disk when its transfer ends. Status and lock change with the phase, in one transaction. */
import type { Id, Phase } from '../model.js'
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import type { Records } from '../store/store.js'
import type { Policies } from './context.js'

export type Fate =
  /** As it was before. */
  | 'restore'
  /** Kept for a look, and for removal by its owner. */
  | 'illegal'
  /** The volume is gone already. */
  | 'remove'
  /** The record stays, locked, until the volume is gone. */
  | 'remove later'

/** Of a transfer that fails. */
export function fateOf(
  transfer: StoredTransfer,
  disk: StoredDisk,
  policies: Policies,
): 'restore' | 'illegal' | 'remove' {
  if (transfer.direction === 'download') return 'restore'
  if (transfer.isUnverified) return 'illegal' // it may be good: an administrator has a look
  if (transfer.isRefused) return policies.deleteInvalidDisks ? 'remove' : 'illegal'
  if (!disk.hasData) return 'remove'
  if (transfer.sessionExpires === 0) return 'restore' // nobody had a ticket to overwrite its image
  return policies.protectExistingDisks ? 'illegal' : 'remove'
}

interface Ending {
  /** Of the disk of a transfer that ends as a failure. */
  readonly fate: Fate | undefined
  /** Who removes it later. */
  readonly owner: Id
}

/** Follows a transfer from a phase to another. */
export async function followPhase(
  records: Records,
  before: Phase,
  after: StoredTransfer,
  ending: Ending,
): Promise<void> {
  if (before === after.phase) return
  const disk = await records.disk(after.diskId)
  if (disk?.lockedBy !== after.id) return
  const next = nextDisk(disk, before, after, ending)
  if (next === 'removed') await records.removeDisk(disk.id)
  else if (next !== undefined) await records.putDisk(next)
}

function nextDisk(
  disk: StoredDisk,
  before: Phase,
  { phase, direction }: StoredTransfer,
  { fate, owner }: Ending,
): StoredDisk | 'removed' | undefined {
  const isUpload = direction === 'upload'
  switch (phase) {
    case 'finished_success':
      return unlocked(isUpload ? { ...disk, status: 'ok', hasData: true } : restored(disk))
    case 'finished_cleanup':
      return isUpload ? { ...disk, status: 'illegal' } : restored(disk)
    case 'finalizing_failure':
      return before === 'finalizing_success' ? { ...disk, status: 'illegal' } : undefined
    case 'finished_failure':
      if (fate === 'remove') return 'removed'
      if (fate === 'remove later') return { ...disk, lockedBy: 'removal', owner }
      return unlocked(fate === 'restore' ? restored(disk) : { ...disk, status: 'illegal' })
    default:
      return undefined
  }
}

/** A disk that is uploaded to was ok, or it could not have been. */
function restored(disk: StoredDisk): StoredDisk {
  return { ...disk, status: disk.statusBeforeLock ?? 'ok' }
}

function unlocked(disk: StoredDisk): StoredDisk {
  return { ...disk, lockedBy: undefined, statusBeforeLock: undefined }
}
