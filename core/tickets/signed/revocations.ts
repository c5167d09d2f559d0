/**
 * Transfers whose tokens are no good any more, though their signature is. An entry is kept until every
 * token that existed when it was made is over.
 */
import { readFile } from 'node:fs/promises'
import { replaceFile } from '../../directories/replace-file.js'
import { parseExactJson, toJson } from '../../json.js'
import type { Logger } from '../../log.js'
import { RevocationNotSavedError, TooManyRevocationsError } from '../errors.js'
import { TRANSFER_ID } from './claims.js'

export interface Revocation {
  readonly transferId: string
  /** Seconds since 1970. */
  readonly revoked: number
  /** Seconds since 1970; undefined: as long as tokens may last. */
  readonly until: number | undefined
}

export interface RevocationsOptions {
  /** Where they are kept; undefined: in memory only. */
  readonly file: string | undefined
  /** Seconds a token that was issued before may still be accepted. */
  readonly keptFor: number
  readonly logger: Logger
  /** Seconds since 1970. */
  readonly now: () => number
}

/** About 20 MiB, and one file written at each change. */
export const MAX_REVOCATIONS = 100_000

export class Revocations {
  readonly #options: RevocationsOptions
  readonly #entries = new Map<string, Revocation>()
  /** A write that has not begun yet, so that it has all changes up to now. */
  #next: Promise<void> | undefined
  #last: Promise<void> = Promise.resolve()

  /** Rejects when there is a file that cannot be used: tokens would be good that must not be. */
  static async open(options: RevocationsOptions): Promise<Revocations> {
    const revocations = new Revocations(options)
    const { file } = options
    if (file === undefined) return revocations
    try {
      for (const entry of parseFile(await readFile(file))) {
        revocations.#entries.set(entry.transferId, entry)
      }
    } catch (cause) {
      const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT'
      if (isMissing) return revocations
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new Error(`cannot use the revocations in ${file}: ${reason}`, { cause })
    }
    return revocations
  }

  private constructor(options: RevocationsOptions) {
    this.#options = options
  }

  has(transferId: string): boolean {
    const entry = this.#entries.get(transferId)
    return entry !== undefined && !this.#isOver(entry)
  }

  list(): Revocation[] {
    return [...this.#entries.values()].filter((entry) => !this.#isOver(entry))
  }

  /** When the entry will be forgotten, in seconds since 1970. */
  endOf({ revoked, until }: Revocation): number {
    return until ?? revoked + this.#options.keptFor
  }

  /**
   * Holds at once, and is saved when it resolves. Rejects with RevocationNotSavedError; throws
   * TooManyRevocationsError.
   */
  async add(transferId: string, until?: number): Promise<void> {
    if (this.#entries.size >= MAX_REVOCATIONS) this.#forgetOld()
    if (this.#entries.size >= MAX_REVOCATIONS && !this.#entries.has(transferId)) {
      throw new TooManyRevocationsError()
    }
    this.#entries.set(transferId, { transferId, revoked: this.#options.now(), until })
    this.#options.logger.info({ transfer: transferId }, 'transfer revoked')
    await this.#save()
  }

  /** Tokens of the transfer are good again. Rejects with RevocationNotSavedError. */
  async remove(transferId: string): Promise<void> {
    if (!this.#entries.delete(transferId)) return
    this.#options.logger.info({ transfer: transferId }, 'revocation removed')
    await this.#save()
  }

  /** Rejects when the user the process is now cannot write the file. */
  async proveAccess(): Promise<void> {
    try {
      await this.#write()
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new Error(`cannot write the revocations of signed tickets: ${reason}`, { cause })
    }
  }

  async #save(): Promise<void> {
    try {
      await this.#write()
    } catch (cause) {
      throw new RevocationNotSavedError(cause)
    }
  }

  /** Resolves when all changes up to now are in the file. */
  async #write(): Promise<void> {
    const { file } = this.#options
    if (file === undefined) return
    this.#next ??= this.#last.then(() => {
      this.#next = undefined
      this.#forgetOld()
      return replaceFile(file, `${toJson({ revocations: this.#toJson() }, 1)}\n`)
    })
    this.#last = this.#next.catch(() => undefined)
    await this.#next
  }

  #toJson(): object[] {
    return [...this.#entries.values()].map(({ transferId, revoked, until }) => ({
      transfer_id: transferId,
      revoked,
      ...(until === undefined ? {} : { until }),
    }))
  }

  #forgetOld(): void {
    for (const [transferId, entry] of this.#entries) {
      if (this.#isOver(entry)) this.#entries.delete(transferId)
    }
  }

  #isOver(entry: Revocation): boolean {
    return this.#options.now() > this.endOf(entry)
  }
}

function parseFile(bytes: Uint8Array): Revocation[] {
  const { revocations } = members(parseExactJson(bytes))
  if (!Array.isArray(revocations)) throw new Error('it has no list of revocations')
  return revocations.map((json: unknown) => {
    const { transfer_id: transferId, revoked, until } = members(json)
    const isTime = (value: unknown): value is number => typeof value === 'number'
    if (typeof transferId !== 'string' || !TRANSFER_ID.test(transferId) || !isTime(revoked)) {
      throw new Error('an entry has no transfer_id, or no time')
    }
    if (until !== undefined && !isTime(until)) throw new Error('until is no time')
    return { transferId, revoked, until }
  })
}

function members(json: unknown): Record<string, unknown> {
  if (typeof json !== 'object' || json === null) throw new Error('it is no JSON object')
  return Object.fromEntries(Object.entries(json))
}
