/**
 * Where disks have their bytes: one provider is one storage domain. A volume is known by the image id
 * of its disk. Directories are the first kind; a volume group, whose volumes are block devices with a
 * size of their own, is meant to be another one behind the same interface.
 */
import type { Disk, Id } from '../model.js'

/** What of a disk its volume is made from. Ids are as in model.ts, and are checked again. */
export type VolumeSpec = Pick<
  Disk,
  'imageId' | 'format' | 'provisionedSize' | 'initialSize' | 'sparse'
>

export type VolumeRef = Pick<Disk, 'imageId'>

export interface VolumeFacts {
  /** Bytes of the file or device. */
  readonly length: number
  /** Bytes allocated. */
  readonly actualSize: number
}

export interface Space {
  readonly available: number
  readonly used: number
}

/** A file in the storage domain that is a volume by its name, or was to be one. */
export interface VolumeFile {
  readonly name: string
  readonly imageId: Id
  /** Of a creation or a removal that did not end. */
  readonly isUnfinished: boolean
  readonly actualSize: number
}

export interface RemoveOptions {
  /** Overwrites what is stored first. */
  readonly wipe: boolean
  /** Stops between two steps; remove() again goes on. */
  readonly signal?: AbortSignal
}

export interface VolumeProvider {
  /** Volumes can have holes: what tickets need to know, and sparse raw disks. */
  readonly isSparseCapable: boolean
  /**
   * Throws FaultError when the storage has no room for it. After any error, nothing of the volume is
   * left; after a crash remove() takes what there is. Not to be called twice for one volume at once.
   */
  create(volume: VolumeSpec, signal?: AbortSignal): Promise<VolumeFacts>
  /**
   * To the provisioned size of `volume`; one that is so large already stays. After any error it is as
   * it was, and after a crash it may be called again.
   */
  grow(volume: VolumeSpec, signal?: AbortSignal): Promise<VolumeFacts>
  /** What was written is on stable storage. Rejects with NotStoredError, or when there is no such volume. */
  flush(volume: VolumeRef): Promise<void>
  /** Also of what create() left. Nothing to remove is no error. */
  remove(volume: VolumeRef, options: RemoveOptions): Promise<void>
  /** Rejects with ENOENT when there is none. */
  facts(volume: VolumeRef): Promise<VolumeFacts>
  path(volume: VolumeRef): string
  /** Of a ticket that moves the bytes of the volume as they are. */
  url(volume: VolumeRef): string
  space(): Promise<Space>
  /** To be compared with the disks: what belongs to none somebody has to look at. */
  files(): Promise<readonly VolumeFile[]>
  /**
   * Takes the storage for this domain, for good, unless it was taken and is not the one it was: then
   * none of the volumes that it should have is there, and the answer is no. `volumes` is undefined when
   * it was never taken. Rejects with what keeps it from being used.
   */
  claim(volumes: readonly VolumeRef[] | undefined): Promise<boolean>
}
