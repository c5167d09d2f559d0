/** How many bytes a ticket permits (transfer-api.md, 7.4). */
import { MiB } from '../../core/units.js'
import type { Disk, Transfer } from '../model.js'

/** `length` is that of the volume's file. */
export function ticketSize(
  { direction, backend }: Pick<Transfer, 'direction' | 'backend'>,
  {
    format,
    provisionedSize,
    initialSize = 0,
  }: Pick<Disk, 'format' | 'provisionedSize'> & Partial<Pick<Disk, 'initialSize'>>,
  length: number,
): number {
  if (backend === 'nbd' || format === 'raw') return provisionedSize
  if (direction === 'download') return length
  // Tables of qcow2 need less than a tenth of what they describe; what else is in the file, snapshots
  // perhaps, its owner has told.
  return Math.max(Math.ceil((provisionedSize * 11) / 10) + MiB, initialSize)
}
