/** Every change that the service itself makes to a transfer goes through here. */
import type { Disk, Id, Phase } from '../model.js'
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import type { Records } from '../store/store.js'
import { LeaseLostError, type Context } from './context.js'
import { followPhase, type Fate } from './fate.js'
import { logFields } from './log-fields.js'
import { isFinal, nextPhase, type SystemEvent } from './phases.js'

/** What a step may set. */
export type Fields = Partial<
  Pick<
    StoredTransfer,
    | 'hasLostWrites'
    | 'hostId'
    | 'isActive'
    | 'isRefused'
    | 'isRefusedByProxy'
    | 'isTicketForgotten'
    | 'isUnverified'
    | 'lastExtended'
    | 'message'
    | 'renewalFailures'
    | 'sessionExpires'
    | 'size'
    | 'ticketId'
    | 'transferred'
    | 'wasStarted'
  >
>

export interface Change {
  /** In other phases nothing is changed. */
  readonly onlyIn?: readonly Phase[]
  readonly event?: SystemEvent
  readonly fields?: Fields
  /** Progress of its own is no sign of life. */
  readonly isQuiet?: boolean
  readonly fate?: Fate
  /** Facts that verification has found. */
  readonly disk?: Partial<Pick<Disk, 'qcowVersion' | 'actualSize'>>
}

/**
 * Applies a change to the transfer as it is now, which a client may have moved on: then the event means
 * what the table says of its new phase. Resolves with the stored result. Throws LeaseLostError.
 */
export async function change(context: Context, id: Id, what: Change): Promise<StoredTransfer> {
  const { store, clock, token, logger } = context
  const { onlyIn, event, fields = {}, isQuiet = false, fate, disk } = what
  const [before, after] = await store.transaction(async (records) => {
    const read = await owned(records, id, token)
    if (onlyIn?.includes(read.phase) === false) return [read, read]
    const phase = event === undefined ? read.phase : nextPhase(read.phase, event, read)
    const updatedAt = isQuiet ? read.updatedAt : clock.now()
    // What went wrong meanwhile is not why it ends: a client has ended it.
    const message = read.phase === 'cancelled_user' ? { message: read.message } : {}
    const stored = await records.putTransfer({ ...read, ...fields, ...message, phase, updatedAt })
    if (disk !== undefined) await describe(records, stored, disk)
    await followPhase(records, read.phase, stored, { fate, owner: token })
    return [read, stored]
  })
  if (before === after) return after
  if (before.phase !== after.phase) {
    const level = after.message !== undefined && after.message !== before.message ? 'warn' : 'info'
    const { phase, message } = after
    logger[level]({ ...logFields(after), from: before.phase, phase, reason: message }, 'phase')
  }
  context.changed(id)
  return after
}

/** The transfer and its disk, for a step. Throws LeaseLostError when the step is somebody else's. */
export async function readOwned(
  { store, token }: Context,
  id: Id,
): Promise<{ transfer: StoredTransfer; disk: StoredDisk | undefined }> {
  return store.transaction(async (records) => {
    const transfer = await owned(records, id, token)
    return { transfer, disk: await records.disk(transfer.diskId) }
  })
}

async function owned(records: Records, id: Id, token: Id): Promise<StoredTransfer> {
  const transfer = await records.transfer(id)
  if (transfer === undefined) throw new LeaseLostError('the transfer is gone')
  if (transfer.owner === token || isFinal(transfer.phase)) return transfer
  throw new LeaseLostError('another instance drives the transfer')
}

async function describe(
  records: Records,
  { id, diskId }: StoredTransfer,
  facts: NonNullable<Change['disk']>,
): Promise<void> {
  const disk = await records.disk(diskId)
  if (disk?.lockedBy === id) await records.putDisk({ ...disk, ...facts })
}
