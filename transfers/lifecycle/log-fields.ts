/** How a transfer appears in the log: what an administrator looks for, and no secret. */
import type { Id, Transfer } from '../model.js'

export interface LogFields {
  readonly transfer: Id
  readonly disk: Id
  readonly direction: Transfer['direction']
  /** Undefined until one is chosen. */
  readonly host: Id | undefined
}

export function logFields({ id, diskId, direction, hostId }: Transfer): LogFields {
  return { transfer: id, disk: diskId, direction, host: hostId }
}
