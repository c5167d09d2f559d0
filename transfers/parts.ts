/** What the engine works with: storage, verification, NBD servers, and the API in front of it. */
import type { StartOptions } from '../core/process/server.js'
import type { TransfersConfig } from './config.js'
import type { Parts } from './transfers.js'

/** Rejects with what an administrator has to mend. */
export function createParts({ config }: StartOptions<TransfersConfig>): Promise<Parts> {
  const { instance } = config.transfers
  return Promise.reject(new Error(`${instance}: this version has no storage and no API yet`))
}
