/** Finished transfers are forgotten after a while. */
import { isFinal } from './phases.js'
import type { Context } from './context.js'

export async function forgetFinished(context: Context): Promise<void> {
  const { clock, logger, store, timers } = context
  const now = clock.now()
  const forgotten = await store.transaction(async (records) => {
    const expired = (await records.transfers()).filter(({ phase, updatedAt }) => {
      const { successRetentionMs, failureRetentionMs } = timers
      const retention = phase === 'finished_success' ? successRetentionMs : failureRetentionMs
      return isFinal(phase) && now - updatedAt >= retention
    })
    for (const { id } of expired) await records.removeTransfer(id)
    return expired
  })
  for (const { id } of forgotten) {
    logger.debug({ transfer: id }, 'forgotten')
    context.changed(id)
  }
}
