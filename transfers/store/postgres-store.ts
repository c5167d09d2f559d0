/**
 * The store in PostgreSQL, for several instances of the service with one database. An instance that
 * stands still (a frozen machine, a network that is cut) never stops another one: what it holds, the
 * server takes from it.
 */
import pg from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import { isServing, onConnect, TIMES } from './postgres-sessions.js'
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

const MAX_CONNECTIONS = 8

/** Any number, the same in each version: who holds this lock migrates. */
const MIGRATION_LOCK = 717_021

const UNIQUE_VIOLATION = '23505'
/** serialization_failure, deadlock_detected, lock_not_available: nothing happened, try again. */
const TRY_AGAIN = new Set(['40001', '40P01', '55P03'])
/** Of locks longer than the server lets anybody of us hold one and do nothing. */
const MAX_TRIES = 5
/** Between two questions of what became of a commit, or whether the server is there. */
const ASK_AGAIN_MS = 250

export interface OpenOptions {
  /** For a server that cannot be reached, or that is busy. */
  readonly patienceMs?: number
  /** Called once when it has to wait. */
  readonly onWait?: (reason: Error) => void
}

export class PostgresStore implements Store {
  readonly leases: Leases
  readonly #pool: pg.Pool
  /** What renews the lease waits for nothing else that this instance does. */
  readonly #leasePool: pg.Pool

  /** `url` as libpq has it: postgresql://user:password@host/database. */
  static async open(url: string, options: OpenOptions = {}): Promise<PostgresStore> {
    const { patienceMs = 0, onWait = () => undefined } = options
    const store = new PostgresStore(url)
    const deadline = performance.now() + patienceMs
    try {
      for (let tries = 1; ; tries++) {
        try {
          await store.#migrate()
          return store
        } catch (error) {
          if (!(error instanceof UnreachableError)) throw error
          if (performance.now() >= deadline) throw error.cause
          if (tries === 1) onWait(error)
        }
        await sleep(ASK_AGAIN_MS)
      }
    } catch (error) {
      await store.close()
      throw error
    }
  }

  private constructor(url: string) {
    const common: pg.PoolConfig = {
      connectionString: url,
      keepAlive: true,
      keepAliveInitialDelayMillis: TIMES.keepAlive,
      lock_timeout: TIMES.lock,
      idle_in_transaction_session_timeout: TIMES.idleInTransaction,
      // Whoever set it otherwise for the database does not weaken what a commit means here.
      options: '-c synchronous_commit=on',
      application_name: 'imageio-transfers',
      onConnect,
    }
    this.#pool = new pg.Pool({
      ...common,
      max: MAX_CONNECTIONS,
      connectionTimeoutMillis: TIMES.connect,
      statement_timeout: TIMES.statement,
      query_timeout: TIMES.answer,
    })
    this.#leasePool = new pg.Pool({
      ...common,
      max: 1,
      idleTimeoutMillis: 0,
      connectionTimeoutMillis: TIMES.lease,
      statement_timeout: TIMES.lease,
      query_timeout: TIMES.lease,
    })
    // An idle connection that breaks is replaced; who needs one then gets the error.
    this.#pool.on('error', () => undefined)
    this.#leasePool.on('error', () => undefined)
    this.leases = new SqlLeases({
      transaction: (work) => this.#transaction(work),
      statement: (work) => inClient(this.#leasePool, (client) => work(sqlOf(client))),
    })
  }

  transaction<T>(work: (records: Records) => Promise<T>): Promise<T> {
    return this.#transaction((sql) => work(new SqlRecords(sql)))
  }

  versions(): Promise<readonly TransferVersion[]> {
    return inClient(this.#pool, (client) => readVersions(sqlOf(client)))
  }

  async close(): Promise<void> {
    await Promise.all([this.#pool.end(), this.#leasePool.end()])
  }

  #migrate(): Promise<void> {
    return this.#transaction(async (sql, client) => {
      await sql.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK])
      await migrate(sql, MIGRATIONS, async (text) => {
        await client.query(text)
      })
    })
  }

  async #transaction<T>(work: (sql: Sql, client: pg.PoolClient) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await inClient(this.#pool, (client) => this.#try(client, work))
      } catch (error) {
        if (!TRY_AGAIN.has(codeOf(error))) throw error
        if (tries >= MAX_TRIES) throw new UnreachableError({ cause: error })
        // Not all at once again.
        await sleep(Math.random() * 50 * tries)
      }
    }
  }

  async #try<T>(
    client: pg.PoolClient,
    work: (sql: Sql, client: pg.PoolClient) => Promise<T>,
  ): Promise<T> {
    const sql = sqlOf(client)
    await sql.query('BEGIN')
    let result: T
    let id: string | undefined
    try {
      result = await work(sql, client)
      id = await transactionId(sql)
    } catch (error) {
      // Without an answer the connection is closed, and the server rolls back.
      if (!(error instanceof UnreachableError)) await sql.query('ROLLBACK')
      throw error
    }
    try {
      await sql.query('COMMIT')
    } catch (error) {
      if (id === undefined || !(await this.#isCommitted(id))) throw error
    }
    return result
  }

  /**
   * Nobody can know from a connection that broke whether the commit it was sent was made; the server
   * knows. Throws UnreachableError when that does not answer in time, and then it may be either.
   */
  async #isCommitted(id: string): Promise<boolean> {
    const deadline = performance.now() + TIMES.outcome
    for (;;) {
      const status = await inClient(this.#pool, async (client) => {
        const text = 'SELECT txid_status(CAST($1 AS BIGINT)) AS status'
        return (await sqlOf(client).query(text, [id])).rows[0]?.['status']
      }).catch((error: unknown) => {
        if (!(error instanceof UnreachableError) || performance.now() > deadline) throw error
        return undefined
      })
      if (status === 'committed') return true
      if (status === 'aborted') return false
      if (performance.now() > deadline) throw new UnreachableError()
      await sleep(ASK_AGAIN_MS)
    }
  }
}

/** One that broke, or that did not answer, is not used again. */
async function inClient<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect().catch((error: unknown) => {
    throw asUnreachable(error)
  })
  let broken: Error | undefined
  const onError = (error: Error): void => void (broken = error)
  client.on('error', onError)
  try {
    return await work(client)
  } catch (error) {
    if (error instanceof UnreachableError) broken ??= error
    throw error
  } finally {
    client.off('error', onError)
    client.release(broken)
  }
}

/** Undefined of one that has written nothing. */
async function transactionId(sql: Sql): Promise<string | undefined> {
  const text = 'SELECT CAST(txid_current_if_assigned() AS TEXT) AS id'
  const id = (await sql.query(text)).rows[0]?.['id']
  return typeof id === 'string' ? id : undefined
}

function sqlOf(client: pg.PoolClient): Sql {
  return {
    forUpdate: 'FOR UPDATE',
    skipLocked: 'FOR UPDATE SKIP LOCKED',
    now: 'CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)',
    query: async (text, values = []): Promise<SqlResult> => {
      try {
        const { rows, rowCount } = await client.query<Record<string, unknown>>(text, [...values])
        return { rows, changes: rowCount ?? 0 }
      } catch (error) {
        if (codeOf(error) === UNIQUE_VIOLATION) throw new DuplicateError({ cause: error })
        throw asUnreachable(error)
      }
    },
  }
}

/** What the server itself has to say about the statement stays as it is. */
function asUnreachable(error: unknown): unknown {
  if (error instanceof pg.DatabaseError && isServing(codeOf(error))) return error
  return new UnreachableError({ cause: error })
}

function codeOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
