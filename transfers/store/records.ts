/** What the store keeps beyond what the API shows. */
import type { Disk, Id, Transfer } from '../model.js'

export interface StoredDisk extends Disk {
  /** Who creates it or removes it, while that goes on. */
  readonly owner: Id | undefined
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
  /** Verification has refused the image. */
  readonly isRefused: boolean
  /** Verification could not say what the image is worth. */
  readonly isUnverified: boolean
}
