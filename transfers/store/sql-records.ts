/** The records of one transaction, in the SQL that SQLite and PostgreSQL share. */
import type { Id } from '../model.js'
import type { StoredDisk, StoredTransfer } from './records.js'
import {
  DISK_COLUMNS,
  diskOf,
  diskRow,
  insertInto,
  ownerOf,
  TRANSFER_COLUMNS,
  transferOf,
  transferRow,
  type Row,
} from './rows.js'
import {
  StaleError,
  type Claimed,
  type Leases,
  type Records,
  type TransferVersion,
} from './store.js'

/** What a driver does. Placeholders are $1, $2 …; uniqueness that is hurt is a DuplicateError. */
export interface Sql {
  query(text: string, values?: readonly (string | number | null)[]): Promise<SqlResult>
  /** Appended to SELECT of one record, to lock it. */
  readonly forUpdate: string
  /** Appended to SELECT of many, to lock those that nobody holds, and leave out the others. */
  readonly skipLocked: string
  /** An expression: milliseconds of the database's clock. */
  readonly now: string
}

export interface SqlResult {
  readonly rows: readonly Row[]
  readonly changes: number
}

const placeholder = (n: number): string => `$${n}`

export class SqlRecords implements Records {
  readonly #sql: Sql

  constructor(sql: Sql) {
    this.#sql = sql
  }

  async disks(): Promise<StoredDisk[]> {
    return (await this.#sql.query('SELECT * FROM disks ORDER BY id')).rows.map(diskOf)
  }

  async disk(id: Id): Promise<StoredDisk | undefined> {
    const row = await this.#one('disks', id)
    return row && diskOf(row)
  }

  async addDisk(disk: StoredDisk): Promise<void> {
    await this.#sql.query(insertInto('disks', DISK_COLUMNS, placeholder), diskRow(disk))
  }

  async putDisk(disk: StoredDisk): Promise<void> {
    const set = 'image_id = $2, in_work = $3, owner = $4, record = $5'
    const { changes } = await this.#sql.query(
      `UPDATE disks SET ${set} WHERE id = $1`,
      diskRow(disk),
    )
    if (changes !== 1) throw new StaleError()
  }

  async removeDisk(id: Id): Promise<void> {
    await this.#sql.query('DELETE FROM disks WHERE id = $1', [id])
  }

  async transfers(): Promise<StoredTransfer[]> {
    return (await this.#sql.query('SELECT * FROM transfers ORDER BY id')).rows.map(transferOf)
  }

  async transfer(id: Id): Promise<StoredTransfer | undefined> {
    const row = await this.#one('transfers', id)
    return row && transferOf(row)
  }

  async addTransfer(transfer: StoredTransfer): Promise<void> {
    const text = insertInto('transfers', TRANSFER_COLUMNS, placeholder)
    await this.#sql.query(text, transferRow(transfer))
  }

  async putTransfer(transfer: StoredTransfer): Promise<StoredTransfer> {
    const set = 'disk_id = $2, is_final = $3, version = $4 + 1, owner = $5, record = $6'
    const { changes } = await this.#sql.query(
      `UPDATE transfers SET ${set} WHERE id = $1 AND version = $4`,
      transferRow(transfer),
    )
    if (changes !== 1) throw new StaleError()
    return { ...transfer, version: transfer.version + 1 }
  }

  async removeTransfer(id: Id): Promise<void> {
    await this.#sql.query('DELETE FROM transfers WHERE id = $1', [id])
  }

  async domains(): Promise<Id[]> {
    const { rows } = await this.#sql.query('SELECT id FROM storage_domains ORDER BY id')
    return rows.map((row) => String(row['id']))
  }

  async addDomain(id: Id): Promise<void> {
    const text = 'INSERT INTO storage_domains (id) VALUES ($1) ON CONFLICT (id) DO NOTHING'
    await this.#sql.query(text, [id])
  }

  async #one(table: string, id: Id): Promise<Row | undefined> {
    const text = `SELECT * FROM ${table} WHERE id = $1 ${this.#sql.forUpdate}`
    return (await this.#sql.query(text, [id])).rows[0]
  }
}

type Run = <T>(work: (sql: Sql) => Promise<T>) => Promise<T>

export interface LeaseRuns {
  readonly transaction: Run
  /** For one statement, which commits itself: whoever stands still between two holds no lock. */
  readonly statement: Run
}

export class SqlLeases implements Leases {
  readonly #transaction: Run
  readonly #statement: Run

  constructor({ transaction, statement }: LeaseRuns) {
    this.#transaction = transaction
    this.#statement = statement
  }

  async begin(name: string, token: Id, ttlMs: number): Promise<void> {
    await this.#statement(async (sql) => {
      await sql.query(
        `INSERT INTO instances (name, token, expires) VALUES ($1, $2, ${sql.now} + $3)
         ON CONFLICT (name) DO UPDATE SET token = $2, expires = ${sql.now} + $3`,
        [name, token, ttlMs],
      )
    })
  }

  async renew(name: string, token: Id, ttlMs: number): Promise<boolean> {
    return this.#statement(async (sql) => {
      const { changes } = await sql.query(
        `UPDATE instances SET expires = ${sql.now} + $3
           WHERE name = $1 AND token = $2 AND expires > ${sql.now}`,
        [name, token, ttlMs],
      )
      return changes === 1
    })
  }

  async claim(token: Id): Promise<Claimed> {
    return this.#transaction(async (sql) => {
      const take = async (table: string, isUnfinished: string): Promise<Id[]> => {
        const { rows } = await sql.query(
          `UPDATE ${table} SET owner = $1 WHERE id IN
             (SELECT id FROM ${table} WHERE ${isUnfinished} AND (owner IS NULL OR owner NOT IN
               (SELECT token FROM instances WHERE expires > ${sql.now})) ${sql.skipLocked})
           RETURNING id`,
          [token],
        )
        return rows.map((row) => String(row['id']))
      }
      // Who has no lease takes nothing: it may be about to learn that it has lost its own.
      const { rows } = await sql.query(
        `SELECT name FROM instances WHERE token = $1 AND expires > ${sql.now}`,
        [token],
      )
      if (rows.length === 0) return { transfers: [], disks: [] }
      return {
        transfers: await take('transfers', 'is_final = 0'),
        disks: await take('disks', 'in_work = 1'),
      }
    })
  }

  async end(name: string, token: Id): Promise<void> {
    await this.#statement(async (sql) => {
      await sql.query('DELETE FROM instances WHERE name = $1 AND token = $2', [name, token])
    })
  }
}

export async function readVersions(sql: Sql): Promise<TransferVersion[]> {
  const { rows } = await sql.query('SELECT id, version, owner, is_final FROM transfers')
  return rows.map((row) => ({
    id: String(row['id']),
    version: Number(row['version']),
    owner: ownerOf(row),
    isFinal: Number(row['is_final']) === 1,
  }))
}

/** Of a database with steps that this version does not know. */
export const NEWER =
  'the database was written by a newer version of this service: start that one, or restore a copy of before'

/** Takes the steps that were not taken yet. `sql` is a transaction that is alone. */
export async function migrate(sql: Sql, steps: readonly string[], run: RunText): Promise<void> {
  await sql.query('CREATE TABLE IF NOT EXISTS migrations (step INTEGER PRIMARY KEY)')
  const { rows } = await sql.query('SELECT COUNT(*) AS taken FROM migrations')
  const taken = Number(rows[0]?.['taken'])
  if (taken > steps.length) {
    throw new Error(NEWER)
  }
  for (const [index, step] of steps.entries()) {
    if (index < taken) continue
    await run(step)
    await sql.query('INSERT INTO migrations (step) VALUES ($1)', [index + 1])
  }
}

/** Several statements at once, without values. */
type RunText = (text: string) => Promise<void>
