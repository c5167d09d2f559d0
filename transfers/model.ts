/** What the transfer service knows: its records, as the store holds them and the API shows them. */

/** Ids are UUIDs, or any token [A-Za-z0-9][A-Za-z0-9._-]{0,63} that a client or the configuration chose. */
export type Id = string

export type DiskFormat = 'raw' | 'cow'
export type DiskStatus = 'locked' | 'ok' | 'illegal'

export interface Disk {
  readonly id: Id
  readonly imageId: Id
  readonly name: string
  readonly description: string
  readonly format: DiskFormat
  /** Bytes the guest sees. */
  readonly provisionedSize: number
  /** Bytes the client wanted allocated at first. */
  readonly initialSize: number | undefined
  readonly sparse: boolean
  readonly backup: 'none' | 'incremental'
  readonly contentType: string
  readonly shareable: boolean
  readonly propagateErrors: boolean
  readonly wipeAfterDelete: boolean
  readonly storageDomainId: Id
  readonly status: DiskStatus
  /** 'creation', 'growth', 'removal', or the id of the transfer; undefined when it is free. */
  readonly lockedBy: Id | undefined
  /** Status to return to when a download ends. */
  readonly statusBeforeLock: DiskStatus | undefined
  readonly qcowVersion: 'qcow2_v2' | 'qcow2_v3' | undefined
  /** Bytes allocated, as last looked up. */
  readonly actualSize: number
}

export type Direction = 'upload' | 'download'
export type TimeoutPolicy = 'legacy' | 'pause' | 'cancel'

export type Phase =
  | 'initializing'
  | 'transferring'
  | 'paused_user'
  | 'paused_system'
  | 'resuming'
  | 'cancelled_user'
  | 'cancelled_system'
  | 'finalizing_success'
  | 'finalizing_cleanup'
  | 'finalizing_failure'
  | 'finished_cleanup'
  | 'finished_success'
  | 'finished_failure'

export type TransferAction = 'extend' | 'pause' | 'resume' | 'cancel' | 'finalize'

export interface Transfer {
  readonly id: Id
  /** Milliseconds of the wall clock. */
  readonly createdAt: number
  readonly updatedAt: number
  readonly phase: Phase
  readonly direction: Direction
  readonly diskId: Id
  /** Chosen by the client or, during preparation, by the service. */
  readonly hostId: Id | undefined
  /** The client asked for this host. */
  readonly isHostFixed: boolean
  /** The secret in the URLs; undefined when there is no ticket. */
  readonly ticketId: Id | undefined
  /** What the client asked for. */
  readonly requestedFormat: DiskFormat | undefined
  readonly format: DiskFormat
  readonly backend: 'file' | 'nbd'
  readonly shallow: boolean
  /** Seconds; 0 is none. */
  readonly inactivityTimeout: number
  readonly timeoutPolicy: TimeoutPolicy
  /** Bytes the ticket permits. */
  readonly size: number
  readonly transferred: number
  readonly isActive: boolean
  /** Milliseconds of the wall clock when the ticket must have been renewed. */
  readonly sessionExpires: number
  readonly renewalFailures: number
  /** Milliseconds of the wall clock of the last extend or resume. */
  readonly lastExtended: number
  /** Why it failed or was paused by the service, or who cancelled it. Clients see it. */
  readonly message: string | undefined
}

export interface Host {
  readonly id: Id
  readonly name: string
  readonly address: string
  /** Hardware id that clients look for: /etc/vdsm/vdsm.id. */
  readonly hardwareId: string | undefined
  readonly isUp: boolean
}

export interface StorageDomain {
  readonly id: Id
  readonly name: string
  readonly path: string
  readonly status: 'active' | 'maintenance' | 'inactive'
  /** Why it is inactive, without a path. */
  readonly problem?: string | undefined
  /** Bytes. */
  readonly available: number
  readonly used: number
}

/** What of a disk the client says when it makes one. */
type DiskWishes = Pick<
  Disk,
  | 'description'
  | 'format'
  | 'provisionedSize'
  | 'initialSize'
  | 'sparse'
  | 'backup'
  | 'contentType'
  | 'shareable'
  | 'propagateErrors'
  | 'wipeAfterDelete'
>

/** Entered by the API, with defaults applied; the service checks what depends on its state. */
export interface NewDisk extends DiskWishes {
  readonly id: Id | undefined
  readonly imageId: Id | undefined
  readonly name: string | undefined
  /** By id or by name; undefined means the only one there is. */
  readonly storageDomain: { readonly id: Id } | { readonly name: string } | undefined
}

/** What of a disk can become another; a size only a larger one. What is not there stays. */
export type DiskChange = Partial<
  Pick<
    Disk,
    | 'name'
    | 'description'
    | 'provisionedSize'
    | 'backup'
    | 'shareable'
    | 'propagateErrors'
    | 'wipeAfterDelete'
  >
>

export interface NewTransfer {
  /** Exactly one of both. */
  readonly diskId: Id | undefined
  readonly imageId: Id | undefined
  readonly direction: Direction
  readonly hostId: Id | undefined
  readonly format: DiskFormat | undefined
  readonly shallow: boolean
  readonly inactivityTimeout: number
  readonly timeoutPolicy: TimeoutPolicy
}

/** Where clients move the data of a transfer; undefined without a ticket. */
export interface TransferUrls {
  readonly transferUrl: string | undefined
  readonly proxyUrl: string | undefined
}

export type TransferView = Transfer & TransferUrls

/** What the API asks of the rest of the service. Refusals are FaultErrors. */
export interface TransferService {
  hosts(): readonly Host[]
  storageDomains(): Promise<readonly StorageDomain[]>
  disks(): Promise<readonly Disk[]>
  /** Undefined when there is none. */
  disk(id: Id): Promise<Disk | undefined>
  /** Stored and locked when it resolves; `ready` settles when the volume exists or the disk is gone. */
  addDisk(disk: NewDisk): Promise<{ readonly disk: Disk; readonly ready: Promise<void> }>
  /** Resolves when all of it is done; of what is refused or fails nothing is. */
  changeDisk(id: Id, change: DiskChange): Promise<Disk>
  removeDisk(id: Id): Promise<void>
  transfers(): Promise<readonly TransferView[]>
  transfer(id: Id): Promise<TransferView | undefined>
  /** `user` is who asks, for the log. */
  addTransfer(transfer: NewTransfer, user?: string): Promise<TransferView>
  act(id: Id, action: TransferAction, user?: string): Promise<void>
  /** Calls back after each change of the transfer (phase, transferred, active), until it is undone. */
  watch(id: Id, onChange: (transfer: TransferView | undefined) => void): () => void
}
