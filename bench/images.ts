/** Files that hold images, and what they are checked with. */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { MiB } from '../core/units.js'

/** Noise: nobody can take it for zeroes or compress it. A file that exists is written over. */
export async function fill(path: string, size: number): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT)
  try {
    const buffer = Buffer.alloc(MiB)
    for (let offset = 0; offset < size; offset += buffer.length) {
      randomFillSync(buffer)
      await file.write(buffer, 0, Math.min(buffer.length, size - offset), offset)
    }
    await file.truncate(size)
  } finally {
    await file.close()
  }
}

export async function copyOnce(from: string, to: string): Promise<void> {
  if (await stat(to).catch(() => undefined)) return
  // Not copyFile(), which shares blocks where the file system can.
  execFileSync('cp', ['--reflink=never', '--sparse=never', from, to])
}

export function verify(expected: string, found: string): void {
  const { status, stdout, stderr } = spawnSync('cmp', [expected, found], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`wrong bytes: ${(stdout || stderr).trim()}`)
}

/** Whether its file system takes direct I/O. */
export async function allowsDirect(path: string): Promise<boolean> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_DIRECT)
    await file.close()
    return true
  } catch {
    return false
  }
}
