/** A small file is replaced as a whole, and stays replaced when the machine loses its power. */
import { randomBytes } from 'node:crypto'
import { open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Owner alone. */
const MODE = 0o600

/**
 * Stored when it resolves: the new text, or after an error the old one. Whose file it was, it stays: who
 * reads it may be another user than the administrator who changes it. Throws what the file system says.
 */
export async function replaceFile(path: string, text: string): Promise<void> {
  const owner = await stat(path).catch(() => undefined)
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    const file = await open(temporary, 'wx', MODE)
    try {
      if (owner !== undefined && process.geteuid?.() === 0) await file.chown(owner.uid, owner.gid)
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  const directory = await open(dirname(path))
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
