/** From `resuming` to a session that is complete again, with the client's URL of before. */
import type { StoredDisk, StoredTransfer } from '../store/records.js'
import { change } from './change.js'
import { LeaseLostError, type Context, type Next } from './context.js'
import type { Memory } from './memory.js'
import { assign, findHost, freshSession, reasonOf } from './preparing.js'
import {
  imageUrl,
  installProxyTicket,
  installTicket,
  renewTickets,
  type Session,
} from './session.js'

export async function restore(
  context: Context,
  transfer: StoredTransfer,
  disk: StoredDisk | undefined,
  memory: Memory,
): Promise<Next> {
  const { clock, timers } = context
  try {
    const host = findHost(context, transfer)
    if (host === undefined) throw new Error('no usable host')
    if (disk === undefined) throw new Error('the disk is gone')
    await complete(context, await assign(context, transfer, disk, host))
  } catch (error) {
    if (error instanceof LeaseLostError) throw error
    // After a restart of the whole machine the daemon may come later than this service.
    if (memory.isRecovered && clock.elapsed() - memory.since < timers.graceMs) return 'later'
    const message = `the session cannot be restored: ${reasonOf(error)}`
    const fields = { message, isActive: false }
    await change(context, transfer.id, { onlyIn: ['resuming'], event: 'restore failed', fields })
    return 'again'
  }
  const fields = freshSession(context)
  await change(context, transfer.id, { onlyIn: ['resuming'], event: 'restored', fields })
  return 'again'
}

/** What is there is kept, so that its count goes on; what is missing is made again. */
async function complete(context: Context, session: Session): Promise<void> {
  const { host, ticketId } = session
  const url = await imageUrl(context, session)
  const state = await host.tickets.state(ticketId)
  if (state === undefined || state.isCanceled) await installTicket(context, session, url)
  else await renewTickets(context, session)
  await installProxyTicket(context, session)
}
