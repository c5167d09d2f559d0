/** The NBD server of a transfer, which may die on its own. */
import { LeaseLostError, type Context } from './context.js'
import type { Memory } from './memory.js'
import { imageUrl, type Session } from './session.js'

const MAX_RESTARTS = 3

/** Starts it again where it has ended; new connections find it. False when that has happened too often. */
export async function keepServer(
  context: Context,
  session: Session,
  memory: Memory,
): Promise<boolean> {
  const { clock, logger, nbd, timers } = context
  const { transfer } = session
  if (transfer.backend === 'file') return true
  const now = clock.elapsed()
  if (await nbd.isAlive(transfer.id)) {
    if (now - memory.nbdRestartedAt >= timers.graceMs) memory.nbdRestarts = 0
    return true
  }
  if (memory.nbdRestarts >= MAX_RESTARTS) {
    memory.nbdRestarts = 0
    return false
  }
  memory.nbdRestarts++
  memory.nbdRestartedAt = now
  try {
    await imageUrl(context, session)
    logger.warn({ transfer: transfer.id }, 'the NBD server had ended and was started again')
  } catch (error) {
    if (error instanceof LeaseLostError) throw error
    logger.warn({ transfer: transfer.id, err: error }, 'the NBD server does not start')
  }
  return true
}
