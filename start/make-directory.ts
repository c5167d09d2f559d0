/** A directory and those above it. Node's recursive mkdir never ends below /proc, where ENOENT is the answer. */
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

const MODE = 0o700

/** For its owner alone, as far as it is new. Throws what mkdir says. */
export async function makeDirectory(path: string): Promise<void> {
  const above = dirname(path)
  if (above !== path && !(await isDirectory(above))) await makeDirectory(above)
  try {
    await mkdir(path, MODE)
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST'
    if (!isThere || !(await isDirectory(path))) throw error
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
