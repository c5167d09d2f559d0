/** Volumes made, grown and removed in the background; a restart goes on with what was begun. */
import type { Id } from '../model.js'
import type { DiskWork, StoredDisk } from '../store/records.js'
import type { Context } from './context.js'

/** Makes the volume of a disk that is locked by 'creation'. Without a volume there is no disk: then it rejects. */
export async function finishCreation(context: Context, id: Id): Promise<void> {
  const { store, volumes, logger } = context
  const disk = await inWork(context, id, 'creation')
  if (disk === undefined) return
  try {
    const { allocated: actualSize } = await volumes.create(disk)
    const qcowVersion = disk.format === 'cow' ? 'qcow2_v3' : undefined
    await store.transaction(async (records) => {
      const read = await records.disk(id)
      if (read?.lockedBy !== 'creation' || read.owner !== context.token) return
      const ready = { ...read, status: 'ok', actualSize, qcowVersion } as const
      await records.putDisk({ ...ready, lockedBy: undefined, owner: undefined })
    })
  } catch (error) {
    logger.error({ disk: id, err: error }, 'the volume cannot be made')
    await store.transaction(async (records) => {
      const read = await records.disk(id)
      if (read?.lockedBy !== 'creation' || read.owner !== context.token) return
      await records.putDisk({ ...read, lockedBy: 'removal' })
    })
    await finishRemoval(context, id).catch(() => undefined) // logged, and the disk is kept as illegal
    throw error
  }
}

/**
 * Grows the volume of a disk that is locked by 'growth', then makes its pending change true. The disk
 * is as it was before when that fails, and it rejects.
 */
export async function finishGrowth(context: Context, id: Id): Promise<void> {
  const { store, volumes, logger } = context
  const disk = await inWork(context, id, 'growth')
  if (disk === undefined) return
  const end = (changes: Partial<StoredDisk>): Promise<void> =>
    store.transaction(async (records) => {
      const read = await records.disk(id)
      if (read?.lockedBy !== 'growth' || read.owner !== context.token) return
      const free = { status: read.statusBeforeLock ?? 'ok', statusBeforeLock: undefined } as const
      const done = { pending: undefined, lockedBy: undefined, owner: undefined }
      await records.putDisk({ ...read, ...changes, ...free, ...done })
    })
  try {
    context.requireLease()
    const { allocated: actualSize } = await volumes.grow({ ...disk, ...disk.pending })
    await end({ ...disk.pending, actualSize })
  } catch (error) {
    logger.error({ disk: id, err: error }, 'the volume cannot be grown')
    await end({})
    throw error
  }
}

/** Removes the volume of a disk that is locked by 'removal', then the disk. Rejects when it cannot. */
export async function finishRemoval(context: Context, id: Id): Promise<void> {
  const { store, volumes, logger } = context
  const disk = await inWork(context, id, 'removal')
  if (disk === undefined) return
  try {
    context.requireLease()
    await volumes.remove(disk)
  } catch (error) {
    logger.error({ disk: id, err: error }, 'the volume cannot be removed')
    await store.transaction(async (records) => {
      const read = await records.disk(id)
      if (read?.lockedBy !== 'removal') return
      await records.putDisk({ ...read, status: 'illegal', lockedBy: undefined, owner: undefined })
    })
    throw error
  }
  await store.transaction(async (records) => {
    const read = await records.disk(id)
    if (read?.lockedBy === 'removal') await records.removeDisk(id)
  })
}

async function inWork(
  { store, token }: Context,
  id: Id,
  work: DiskWork,
): Promise<StoredDisk | undefined> {
  const disk = await store.transaction((records) => records.disk(id))
  return disk?.lockedBy === work && disk.owner === token ? disk : undefined
}
