/**
 * A file that tells the directory of a storage domain from the empty one that its file system is mounted
 * over: without it nothing is read, made or removed there. It holds the id of the domain, so that one is
 * not taken for another that was mounted in its place.
 */
import { constants } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { DomainUnavailableError } from '../fault.js'
import type { Id } from '../model.js'
import { isMissing, type Directory } from './directory.js'

export const MARKER = '.imageio-domain'

/** No id is longer. */
const MAX_SIZE = 128

/** Throws DomainUnavailableError. */
export async function checkMarker(directory: Directory, id: Id): Promise<void> {
  const found = await readMarker(directory)
  if (found === id) return
  if (found === undefined) {
    throw new DomainUnavailableError(
      `its directory has no file ${MARKER}, as if it was not mounted`,
    )
  }
  throw new DomainUnavailableError(`its directory is that of another one, ${found}`)
}

/** Of a directory that has none. Nothing happens when somebody was faster, with whichever id. */
export async function writeMarker(directory: Directory, id: Id): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL } = constants
  const unfinished = `${MARKER}.${randomBytes(8).toString('hex')}`
  const file = await directory.open(unfinished, O_WRONLY | O_CREAT | O_EXCL, 0o644)
  try {
    await file.writeFile(`${id}\n`)
    await file.sync()
    await directory.publish(unfinished, MARKER)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await file.close()
    await directory.unlink(unfinished)
  }
  await directory.sync()
}

/** Undefined when there is none. */
export async function readMarker(directory: Directory): Promise<string | undefined> {
  const file = await directory.open(MARKER, constants.O_RDONLY).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  if (file === undefined) return undefined
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_SIZE), 0, MAX_SIZE, 0)
    return printable(buffer.toString('utf8', 0, bytesRead).trim())
  } finally {
    await file.close()
  }
}

function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}
