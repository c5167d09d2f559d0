/** A disk to play with when the user brought none: mostly hole, some text, some noise. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { KiB, MiB } from '../core/units.js'

const SIZE = 64 * MiB

/** Makes the file unless it is there; what was written to it is kept. */
export async function makeSample(path: string): Promise<void> {
  if (await exists(path)) return
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const unfinished = `${path}.${process.pid}`
  const file = await open(unfinished, 'w', 0o600)
  try {
    await file.truncate(SIZE)
    await file.write('This is the sample disk of imageio.\n'.padEnd(4 * KiB), 0)
    await file.write(randomBytes(2 * MiB), 0, 2 * MiB, MiB)
    await file.write(randomBytes(3 * MiB), 0, 3 * MiB, 32 * MiB)
    await file.write(randomBytes(4 * KiB), 0, 4 * KiB, SIZE - 4 * KiB)
  } finally {
    await file.close()
  }
  await rename(unfinished, path)
}

async function exists(path: string): Promise<boolean> {
  const status = await stat(path).catch(() => undefined)
  return status !== undefined && status.size > 0
}
