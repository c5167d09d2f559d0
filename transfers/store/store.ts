/**
 * The durable memory of the service, shared by all its instances. What a transaction has written when
 * `transaction` resolves survives a crash of the service, of the database, and of the machine.
 */
import { ServiceError } from '../../core/errors.js'
import type { Id } from '../model.js'
import type { StoredDisk, StoredTransfer } from './records.js'

export interface Store {
  /**
   * Runs `work` alone, as far as its records are concerned: all of it happens, or nothing. It may run
   * more than once when the database asks for that, so it does nothing but read and write records.
   */
  transaction<T>(work: (records: Records) => Promise<T>): Promise<T>
  /** Of every transfer, without a transaction: cheap enough to ask every second. */
  versions(): Promise<readonly TransferVersion[]>
  readonly leases: Leases
  close(): Promise<void>
}

export interface Records {
  disks(): Promise<StoredDisk[]>
  /** Nobody else changes the record until the transaction ends. */
  disk(id: Id): Promise<StoredDisk | undefined>
  /** Throws DuplicateError. */
  addDisk(disk: StoredDisk): Promise<void>
  putDisk(disk: StoredDisk): Promise<void>
  removeDisk(id: Id): Promise<void>

  transfers(): Promise<StoredTransfer[]>
  /** Nobody else changes the record until the transaction ends. */
  transfer(id: Id): Promise<StoredTransfer | undefined>
  /** Throws DuplicateError, also when the disk has an unfinished transfer. */
  addTransfer(transfer: StoredTransfer): Promise<void>
  /** Compare-and-set: stored as the version after its own. Throws StaleError when that is not the last. */
  putTransfer(transfer: StoredTransfer): Promise<StoredTransfer>
  removeTransfer(id: Id): Promise<void>

  /** Storage domains that were there once. */
  domains(): Promise<Id[]>
  /** Also of one that is known. */
  addDomain(id: Id): Promise<void>
}

export interface TransferVersion {
  readonly id: Id
  readonly version: number
  readonly owner: Id | undefined
  readonly isFinal: boolean
}

/**
 * Which instance drives what. An instance has a name, which outlives the process, and a token, which
 * does not. While it renews its lease, what its token owns is its own. The database's clock decides,
 * because those of hosts differ.
 */
export interface Leases {
  /**
   * Begins, in place of a process of this name before, whose lease ends at once: what it owned is
   * this one's.
   */
  begin(name: string, token: Id, ttlMs: number): Promise<void>
  /** False when the lease is over: ended by another process of the name. */
  renew(name: string, token: Id, ttlMs: number): Promise<boolean>
  /**
   * Takes over unfinished transfers, and disks in work, whose owner has no lease. Those that somebody
   * is just changing are left for the next time.
   */
  claim(token: Id): Promise<Claimed>
  end(name: string, token: Id): Promise<void>
}

export interface Claimed {
  readonly transfers: readonly Id[]
  readonly disks: readonly Id[]
}

export class StaleError extends ServiceError {
  readonly code = 'ERR_STORE_STALE'
  readonly statusCode = 409
  constructor(options?: ErrorOptions) {
    super('the record was changed meanwhile', options)
  }
}

export class DuplicateError extends ServiceError {
  readonly code = 'ERR_STORE_DUPLICATE'
  readonly statusCode = 409
  constructor(options?: ErrorOptions) {
    super('there is such a record already', options)
  }
}

/** What was asked for was not done, as far as anybody can know. */
export class UnreachableError extends ServiceError {
  readonly code = 'ERR_STORE_UNREACHABLE'
  readonly statusCode = 503
  constructor(options?: ErrorOptions) {
    const reason = options?.cause instanceof Error ? `: ${options.cause.message}` : ''
    super(`the database cannot be reached or written, or does not answer in time${reason}`, options)
  }
}
