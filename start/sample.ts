/** A disk to play with when the user brought none: mostly hole, some text, some noise. */
import { randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'
import { KiB, MiB } from '../core/units.js'

const SIZE = 64 * MiB

/** Makes the file, which must not exist. */
export async function makeSample(path: string): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(SIZE)
    await file.write('This is the sample disk of imageio.\n'.padEnd(4 * KiB), 0)
    await file.write(randomBytes(2 * MiB), 0, 2 * MiB, MiB)
    await file.write(randomBytes(3 * MiB), 0, 3 * MiB, 32 * MiB)
    await file.write(randomBytes(4 * KiB), 0, 4 * KiB, SIZE - 4 * KiB)
  } finally {
    await file.close()
  }
}
