/** What a crash may have left behind besides unfinished transfers, which their drivers continue. */
import type { Id } from '../model.js'
import { isDiskWork, type StoredDisk, type StoredTransfer } from '../store/records.js'
import type { Context } from './context.js'
import { finishCreation, finishGrowth, finishRemoval } from './disk-work.js'
import { isFinal } from './phases.js'

/** Goes on with the work on volumes that somebody has begun who is gone. */
export async function continueDisks(context: Context, ids: readonly Id[]): Promise<void> {
  for (const id of ids) {
    try {
      await finishCreation(context, id)
      await finishGrowth(context, id)
      await finishRemoval(context, id)
    } catch (error) {
      context.logger.error({ disk: id, err: error }, 'the work on a disk cannot be finished')
    }
  }
}

/**
 * A lock without its transfer should not exist, for both change together. If it does, an image that
 * was being written is not to be trusted.
 */
export async function breakLooseLocks({ logger, store }: Context): Promise<void> {
  const broken = await store.transaction(async (records) => {
    const transfers = new Map(
      (await records.transfers()).map((transfer) => [transfer.id, transfer]),
    )
    const isLoose = ({ lockedBy }: StoredDisk, transfer: StoredTransfer | undefined): boolean =>
      lockedBy !== undefined &&
      !isDiskWork(lockedBy) &&
      (transfer === undefined || isFinal(transfer.phase))
    const loose: StoredDisk[] = []
    for (const { id, lockedBy = '' } of (await records.disks()).filter((disk) =>
      isLoose(disk, transfers.get(disk.lockedBy ?? '')),
    )) {
      // Another instance may have begun a transfer between the two readings, or ended one since.
      const transfer = await records.transfer(lockedBy)
      const disk = await records.disk(id)
      if (disk?.lockedBy !== lockedBy || !isLoose(disk, transfer)) continue
      const status = disk.statusBeforeLock ?? 'illegal'
      const unlocked = { lockedBy: undefined, statusBeforeLock: undefined }
      await records.putDisk({ ...disk, status, ...unlocked })
      loose.push(disk)
    }
    return loose
  })
  for (const { id, lockedBy } of broken) {
    logger.error({ disk: id, transfer: lockedBy }, 'a disk was locked by a transfer that is gone')
  }
}

/** NBD servers are processes of their own; one without an unfinished transfer is left over. */
export async function stopOrphans({ logger, nbd, store }: Context): Promise<void> {
  const transfers = await store.transaction((records) => records.transfers())
  const known = new Set(transfers.filter(({ phase }) => !isFinal(phase)).map(({ id }) => id))
  for (const id of await nbd.running()) {
    if (known.has(id)) continue
    logger.warn({ transfer: id }, 'an NBD server is left over and is stopped')
    await nbd.stop(id).catch((error: unknown) => {
      logger.error({ transfer: id, err: error }, 'the NBD server cannot be stopped')
    })
  }
}
