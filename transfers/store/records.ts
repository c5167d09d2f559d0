/** What the store keeps beyond what the API shows. */
import type { Disk, DiskChange, Id, Transfer } from '../model.js'

/** What a disk is locked by while somebody works on its files. */
export const DISK_WORK = ['creation', 'growth', 'removal'] as const
export type DiskWork = (typeof DISK_WORK)[number]

export function isDiskWork(lockedBy: Id | undefined): lockedBy is DiskWork {
  return DISK_WORK.some((work) => work === lockedBy)
}

export interface StoredDisk extends Disk {
  /** Who does the work that it is locked by. */
  readonly owner: Id | undefined
  /** Becomes true, all of it, when the volume has grown. */
  readonly pending?: DiskChange | undefined
  /** An upload to it has succeeded once: there is something to lose. */
  readonly hasData: boolean
}

export interface StoredTransfer extends Transfer {
  /** Counts changes. A change names the version it is based on. */
  readonly version: number
  /** The instance that drives it. */
  readonly owner: Id | undefined
  /** A ticket may have existed: the image may have been touched. */
  readonly wasStarted: boolean
  /** Writes of the upload that were acknowledged are lost: it cannot become a disk. */
  readonly hasLostWrites: boolean
  /** The daemon had lost the ticket once, and with it what was not flushed. */
  readonly isTicketForgotten: boolean
  /** The proxy has said no to the ticket; it is asked again now and then. */
  readonly isRefusedByProxy?: boolean | undefined
  /** Verification has refused the image. */
  readonly isRefused: boolean
  /** Verification could not say what the image is worth. */
  readonly isUnverified: boolean
}
