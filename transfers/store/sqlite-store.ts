/**
 * The store in a file, for one machine: SQLite in WAL mode, each commit on stable storage before it
 * is reported.
 */
import { chmodSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { MIGRATIONS } from './schema.js'
import {
  migrate,
  readVersions,
  SqlLeases,
  SqlRecords,
  type Sql,
  type SqlResult,
} from './sql-records.js'
import {
  DuplicateError,
  UnreachableError,
  type Leases,
  type Records,
  type Store,
  type TransferVersion,
} from './store.js'

/** Milliseconds another process may hold the file; a transaction takes a few. */
const BUSY_MS = 10_000
/** Of these SQLite itself waits so long, and nothing else runs meanwhile. */
const BLOCKING_MS = 20
export const SQLITE_BUSY = 5

/** What a constraint that is hurt reports: SQLITE_CONSTRAINT_PRIMARYKEY and _UNIQUE. */
const DUPLICATE_CODES = new Set([1555, 2067])

/** The storage fails, is full or may not be written: SQLITE_READONLY, _IOERR, _FULL, _CANTOPEN. */
const STORAGE_CODES = new Set([8, 10, 13, 14])

export class SqliteStore implements Store {
  readonly leases: Leases
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  /** One connection is one transaction at a time. */
  #last: Promise<unknown> = Promise.resolve()

  /** Makes the file if need be. */
  static async open(path: string): Promise<SqliteStore> {
    const database = new DatabaseSync(path, { timeout: BLOCKING_MS })
    try {
      // It knows ids of tickets, which are secrets while they are valid.
      chmodSync(path, 0o600)
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
      const store = new SqliteStore(database)
      const run = (text: string): Promise<void> => {
        database.exec(text)
        return Promise.resolve()
      }
      await store.#alone((sql) => migrate(sql, MIGRATIONS, run))
      return store
    } catch (error) {
      database.close()
      throw error
    }
  }

  private constructor(database: DatabaseSync) {
    this.#database = database
    this.leases = new SqlLeases({
      transaction: (work) => this.#alone(work),
      statement: (work) => this.#alone(work),
    })
  }

  transaction<T>(work: (records: Records) => Promise<T>): Promise<T> {
    return this.#alone((sql) => work(new SqlRecords(sql)))
  }

  versions(): Promise<readonly TransferVersion[]> {
    return this.#alone(readVersions)
  }

  async close(): Promise<void> {
    await this.#last.catch(() => undefined)
    this.#database.close()
  }

  #alone<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    const run = async (): Promise<T> => {
      await this.#begin()
      try {
        const result = await work(this.#sql)
        this.#database.exec('COMMIT')
        return result
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
        throw error
      }
    }
    const result = this.#last.then(run, run).catch((error: unknown) => {
      throw translate(error)
    })
    this.#last = result.catch(() => undefined)
    return result
  }

  /** IMMEDIATE: who reads in order to write must not find out at the end that somebody was faster. */
  async #begin(): Promise<void> {
    const deadline = performance.now() + BUSY_MS
    for (;;) {
      try {
        this.#database.exec('BEGIN IMMEDIATE')
        return
      } catch (error) {
        const isBusy = (error as { errcode?: number }).errcode === SQLITE_BUSY
        if (!isBusy || performance.now() > deadline) throw error
      }
      await sleep(Math.random() * BLOCKING_MS)
    }
  }

  readonly #sql: Sql = {
    forUpdate: '',
    skipLocked: '',
    now: `CAST(unixepoch('subsec') * 1000 AS INTEGER)`,
    query: (text, values = []) => {
      try {
        return Promise.resolve(this.#query(text, values))
      } catch (error) {
        return Promise.reject(translate(error))
      }
    },
  }

  #query(text: string, values: readonly (string | number | null)[]): SqlResult {
    const statement = this.#statements.get(text) ?? this.#database.prepare(text)
    this.#statements.set(text, statement)
    // Numbered placeholders may be used twice, which SQLite binds by name.
    const named = Object.fromEntries(values.map((value, index) => [`$${index + 1}`, value]))
    if (/^\s*(SELECT|UPDATE[\s\S]*RETURNING)/.test(text)) {
      const rows = statement.all(named)
      return { rows, changes: rows.length }
    }
    return { rows: [], changes: Number(statement.run(named).changes) }
  }
}

function translate(error: unknown): Error {
  const { errcode } = error as { errcode?: number }
  if (errcode !== undefined && DUPLICATE_CODES.has(errcode)) {
    return new DuplicateError({ cause: error })
  }
  // The lowest byte of an extended code is what it is a kind of.
  const kind = (errcode ?? 0) & 0xff
  if (kind === SQLITE_BUSY || STORAGE_CODES.has(kind)) return new UnreachableError({ cause: error })
  return error instanceof Error ? error : new Error(String(error))
}
