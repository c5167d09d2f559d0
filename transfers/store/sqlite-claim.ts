/** That one process at a time uses a database file. */
import { chmodSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { SQLITE_BUSY } from './sqlite-store.js'

/**
 * Who starts another process by mistake shall not end the one that runs, as one does that takes over its
 * lease. It is SQLite's lock on a file beside it, which ends with the process. Returns what ends it before.
 */
export async function claimFile(path: string): Promise<() => void> {
  const file = `${await realpath(path).catch(() => path)}.lock` // it may still have to be made
  const lock = new DatabaseSync(file, { timeout: 0 })
  try {
    // Who can read it can hold it.
    chmodSync(file, 0o600)
    lock.exec('BEGIN EXCLUSIVE')
  } catch (cause) {
    lock.close()
    if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) throw cause
    const advice = 'end that one, or name another file in [transfers] database'
    throw new Error(`another imageio-transfers uses it: ${advice}`, { cause })
  }
  return () => lock.close()
}
