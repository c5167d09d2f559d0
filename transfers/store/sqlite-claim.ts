/** That one process at a time uses a database file. */
import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { SQLITE_BUSY } from './sqlite-store.js'

/**
 * Who starts another process by mistake shall not end the one that runs, as one does that takes over its
 * lease. It is SQLite's lock on a file beside it, which ends with the process. Makes an empty file if need
 * be, since only one that is there has one name. Returns what ends the claim before the process does.
 */
export async function claimFile(path: string): Promise<() => void> {
  const database = await open(path, 'a', 0o600)
  const { nlink } = await database.stat().finally(() => database.close())
  // Nor would SQLite find by one name what it has written by another ("How to corrupt", 2.5).
  if (nlink > 1) throw new Error('it has another name, a hard link; remove one of them')
  const file = `${await realpath(path)}.lock`
  await makeLockFile(file)
  const lock = new DatabaseSync(file, { timeout: 0 })
  try {
    lock.exec('BEGIN EXCLUSIVE')
  } catch (cause) {
    lock.close()
    const { errcode, message } = cause as Error & { errcode?: number }
    if (errcode !== SQLITE_BUSY) throw new Error(`its lock, ${file}: ${message}`, { cause })
    const advice = 'end that one, or name another file in [transfers] database'
    throw new Error(`another imageio-transfers uses it: ${advice}`, { cause })
  }
  return () => lock.close()
}

/** For its owner alone: who can read it can hold it. */
async function makeLockFile(path: string): Promise<void> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
  const file = await open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600)
  try {
    const status = await file.stat()
    if (!status.isFile() || status.nlink > 1) {
      throw new Error(`its lock, ${path}, is no file of its own; remove it`)
    }
    await file.chmod(0o600)
  } finally {
    await file.close()
  }
}
