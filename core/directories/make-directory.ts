/** A directory and those above it. Node's recursive mkdir never ends below /proc, where ENOENT is the answer. */
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Owner alone. */
const MODE = 0o700

/** `mode` is of those that are new. Resolves with whether `path` itself is. Throws what mkdir says. */
export async function makeDirectory(path: string, mode = MODE): Promise<boolean> {
  const above = dirname(path)
  if (above !== path && !(await isDirectory(above))) await makeDirectory(above, mode)
  try {
    await mkdir(path, mode)
    return true
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST'
    if (!isThere || !(await isDirectory(path))) throw error
    return false
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
