/** The store in PostgreSQL, for several instances of the service with one database. */
import pg from 'pg'
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
  type Leases,
  type Records,
  type Store,
  type TransferVersion,
} from './store.js'

const MAX_CONNECTIONS = 8
const CONNECT_MS = 10_000
/** A statement waits for locks of other transactions, which are short. */
const STATEMENT_MS = 30_000

/** Any number, the same in each version: who holds this lock migrates. */
const MIGRATION_LOCK = 717_021

const UNIQUE_VIOLATION = '23505'
/** serialization_failure, deadlock_detected: nothing happened, try again. */
const TRY_AGAIN = new Set(['40001', '40P01'])
const MAX_TRIES = 5

export class PostgresStore implements Store {
  readonly leases: Leases
  readonly #pool: pg.Pool

  /** `url` as libpq has it: postgresql://user:password@host/database. */
  static async open(url: string): Promise<PostgresStore> {
    const store = new PostgresStore(url)
    try {
      await store.#transaction(async (sql, client) => {
        await sql.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
        await migrate(sql, MIGRATIONS, async (text) => {
          await client.query(text)
        })
      })
      return store
    } catch (error) {
      await store.close()
      throw error
    }
  }

  private constructor(url: string) {
    this.#pool = new pg.Pool({
      connectionString: url,
      max: MAX_CONNECTIONS,
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: STATEMENT_MS,
      // Whoever set it otherwise for the database does not weaken what a commit means here.
      options: '-c synchronous_commit=on',
      application_name: 'imageio-transfers',
    })
    // An idle connection that breaks is replaced; who needs one then gets the error.
    this.#pool.on('error', () => undefined)
    this.leases = new SqlLeases((work) => this.#transaction(work))
  }

  transaction<T>(work: (records: Records) => Promise<T>): Promise<T> {
    return this.#transaction((sql) => work(new SqlRecords(sql)))
  }

  async versions(): Promise<readonly TransferVersion[]> {
    return readVersions(sqlOf(this.#pool))
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }

  async #transaction<T>(work: (sql: Sql, client: pg.PoolClient) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#try(work)
      } catch (error) {
        if (tries >= MAX_TRIES || !TRY_AGAIN.has(codeOf(error))) throw error
        // Not all at once again.
        await sleep(Math.random() * 50 * tries)
      }
    }
  }

  async #try<T>(work: (sql: Sql, client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect()
    let broken: Error | undefined
    const onError = (error: Error): void => void (broken = error)
    client.on('error', onError)
    try {
      await client.query('BEGIN')
      const result = await work(sqlOf(client), client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK').catch((cause: unknown) => {
        broken ??= cause instanceof Error ? cause : new Error(String(cause))
      })
      throw error
    } finally {
      client.off('error', onError)
      client.release(broken)
    }
  }
}

function sqlOf(client: pg.Pool | pg.PoolClient): Sql {
  return {
    forUpdate: 'FOR UPDATE',
    now: 'CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)',
    query: async (text, values = []): Promise<SqlResult> => {
      try {
        const { rows, rowCount } = await client.query<Record<string, unknown>>(text, [...values])
        return { rows, changes: rowCount ?? 0 }
      } catch (error) {
        if (codeOf(error) === UNIQUE_VIOLATION) throw new DuplicateError({ cause: error })
        throw error
      }
    },
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
