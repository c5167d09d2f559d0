/** One step of a transfer: what its phase asks for. */
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import type { Context, Next } from './context.js'
import type { Memory } from './memory.js'
import { wait } from './paused.js'
import { poll } from './polling.js'
import { prepare } from './preparing.js'
import { restore } from './resuming.js'
import { cleanUp, stop } from './stopping.js'

export async function step(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  switch (transfer.phase) {
    case 'initializing':
      return prepare(context, transfer, disk, memory)
    case 'transferring':
      return poll(context, transfer, disk, memory)
    case 'resuming':
      return restore(context, transfer, disk, memory)
    case 'paused_user':
    case 'paused_system':
      return wait(context, transfer, memory)
    case 'cancelled_user':
    case 'cancelled_system':
      await change(context, transfer.id, { event: 'proceed' })
      return 'again'
    case 'finalizing_success':
    case 'finalizing_cleanup':
    case 'finalizing_failure':
      return stop(context, transfer, disk, memory)
    case 'finished_cleanup':
      return cleanUp(context, transfer, disk, memory)
    case 'finished_success':
    case 'finished_failure':
      return 'idle'
  }
}
