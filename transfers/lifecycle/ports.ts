/** What the lifecycle asks of the storage side. */
import type { Disk, Id, StorageDomain, Transfer } from '../model.js'

export interface VolumeFacts {
  /** Bytes of the file. */
  readonly length: number
  /** Bytes allocated. */
  readonly allocated: number
}

export interface VolumeFile {
  readonly name: string
  readonly imageId: Id
  /** Of a creation or a removal that did not end. */
  readonly isUnfinished: boolean
  /** Bytes allocated. */
  readonly actualSize: number
}

/** What needs a storage domain rejects with DomainUnavailableError while that is not there. */
export interface Volumes {
  /** Every storage domain of the configuration, as it is now. */
  domains(): Promise<readonly StorageDomain[]>
  /**
   * Takes a storage domain that is new, when `disks` is undefined, or whose volumes of these disks are
   * there. False when it is not the one it was. Rejects with what keeps it from being used.
   */
  claim(domainId: Id, disks: readonly Disk[] | undefined): Promise<boolean>
  /** Files of a storage domain that are volumes, or were to be. */
  files(domainId: Id): Promise<readonly VolumeFile[]>
  /** Makes the empty volume of a disk. What an attempt before has left is replaced. */
  create(disk: Disk): Promise<VolumeFacts>
  /**
   * Makes the volume as large as the disk; it may be that already. Rejects when that cannot be, and
   * then the volume is as it was.
   */
  grow(disk: Disk): Promise<VolumeFacts>
  /**
   * What was written to the volume, by whomever, is on stable storage. Rejects with NotStoredError when the
   * storage says that it is not.
   */
  flush(disk: Disk): Promise<void>
  /** Succeeds also when there is none. */
  remove(disk: Disk): Promise<void>
  /** What a daemon opens: file:///… */
  url(disk: Disk): string
  /** Rejects when the volume cannot be used. */
  facts(disk: Disk): Promise<VolumeFacts>
}

export type Verdict =
  | {
      readonly ok: true
      readonly qcowVersion?: 'qcow2_v2' | 'qcow2_v3' | undefined
      /** Bytes allocated. */
      readonly actualSize?: number | undefined
    }
  | {
      readonly ok: false
      /** For administrators. */
      readonly reason: string
    }

export interface Verifier {
  /** What an uploaded image is worth. Rejects when that cannot be told now; it is asked again,
   * a limited number of times; then the disk is kept as illegal. */
  verify(disk: Disk): Promise<Verdict>
  /** Who waits for a verification to begin is rejected. */
  stop(): void
}

/** Servers that outlive the process of this service. */
export interface NbdServers {
  /**
   * Starts the server of a transfer, or finds it running, whoever has started it. Its URL stays; `isNew` is one
   * that was started now.
   */
  start(transfer: Transfer, disk: Disk): Promise<{ readonly url: string; readonly isNew: boolean }>
  /**
   * Succeeds also when there is none. Rejects when it does not end; one that `mayKill` is killed then, and
   * what it has not stored is lost.
   */
  stop(transferId: Id, options?: { readonly mayKill: boolean }): Promise<void>
  isAlive(transferId: Id): Promise<boolean>
  /** Transfers whose servers run. */
  running(): Promise<readonly Id[]>
}
