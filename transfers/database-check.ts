/** Why a database cannot be used, found without writing to it. */
import { constants } from 'node:fs'
import { access, open, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import pg from 'pg'
import { describe, faultOfDirectory, isMissing } from '../core/process/host-checks.js'
import { isPostgres } from './database.js'
import { MIGRATIONS } from './store/schema.js'
import { NEWER } from './store/sql-records.js'

const CONNECT_MS = 10_000

/** Undefined when it can. Never has the password. */
export async function faultOfDatabase(database: string): Promise<string | undefined> {
  if (isPostgres(database)) return faultOfPostgres(database)
  return (await faultOfFile(database)) ?? ((await isNewer(database)) ? NEWER : undefined)
}

/** The service makes the file, and its directory, but no more: what is missing above is not mounted. */
export async function faultOfFile(path: string): Promise<string | undefined> {
  const dir = dirname(path)
  if (await isMissing(dir)) {
    const above = dirname(dir)
    const fault = await faultOfDirectory(above)
    return fault && `${dir} cannot be made: ${fault}; mount or make it, or mend the path`
  }
  const fault = await faultOfDirectory(dir)
  if (fault !== undefined || (await isMissing(path))) return fault
  try {
    if (!(await stat(path)).isFile()) return `${path} is not a regular file`
    await access(path, constants.R_OK | constants.W_OK)
    return (await isDatabase(path)) ? undefined : `${path} is no SQLite database`
  } catch (error) {
    return `${path} ${describe(error)}`
  }
}

const MAGIC = 'SQLite format 3\0'

/** Or will be one: SQLite leaves an empty file when it is killed before its first write. */
async function isDatabase(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0)
    return bytesRead === 0 || buffer.toString('latin1', 0, bytesRead) === MAGIC
  } finally {
    await file.close()
  }
}

/**
 * Read without its log, so that no file is made: whoever runs, or was killed, may have left it in a state
 * that says nothing. The start, which may write, decides.
 */
async function isNewer(path: string): Promise<boolean> {
  if (await isMissing(path)) return false
  const url = pathToFileURL(path)
  url.searchParams.set('immutable', '1')
  try {
    const database = new DatabaseSync(url, { readOnly: true })
    try {
      const taken = database.prepare('SELECT COUNT(*) AS taken FROM migrations').get()
      return Number(taken?.['taken']) > MIGRATIONS.length
    } finally {
      database.close()
    }
  } catch {
    return false
  }
}

async function faultOfPostgres(url: string): Promise<string | undefined> {
  try {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_MS })
    client.on('error', () => undefined) // a connection that breaks fails the query as well
    try {
      await client.connect()
      return await faultOfTables(client)
    } finally {
      await client.end()
    }
  } catch (error) {
    return `PostgreSQL cannot be used: ${reasonsOf(error)}`
  }
}

async function faultOfTables(client: pg.Client): Promise<string | undefined> {
  const { rows } = await client.query<{ there: boolean; mayMake: boolean | null }>(
    `SELECT to_regclass('migrations') IS NOT NULL AS there,
            has_schema_privilege(current_schema(), 'CREATE') AS "mayMake"`,
  )
  const [found] = rows
  if (found?.there !== true) {
    if (found?.mayMake === true) return undefined
    return 'the user of the database may make no tables: GRANT CREATE on the schema to it'
  }
  const taken = await client.query<{ taken: string }>('SELECT COUNT(*) AS taken FROM migrations')
  return Number(taken.rows[0]?.taken) > MIGRATIONS.length ? NEWER : undefined
}

/** Of a name with several addresses each attempt has its own. */
export function reasonsOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonsOf).join(', ')
  return error instanceof Error ? error.message : String(error)
}
