/** Files, devices and descriptors for the addon's tests, taken away when the test ends. */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { closeDescriptor, openPath, reopen, SystemError } from '../../native/index.js'

export const KiB = 1024
export const MiB = 1024 * KiB

/** A directory on memory where there is one, else among temporary files. */
export function memoryDirectory(t: Test): string {
  return directoryIn(t, existsSync('/dev/shm') ? '/dev/shm' : tmpdir())
}

/** A directory in the checkout's file system, which usually knows direct I/O. */
export function diskDirectory(t: Test): string {
  return directoryIn(t, process.cwd())
}

function directoryIn(t: Test, parent: string): string {
  const directory = mkdtempSync(join(parent, '.imageio-test-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A descriptor for I/O, made the way the daemon makes its own. */
export async function open(
  t: Test,
  path: string,
  { write = false, direct = false } = {},
): Promise<number> {
  const place = await openPath(path)
  try {
    const fd = await reopen(place, { write, direct })
    t.teardown(() => closeDescriptor(fd))
    return fd
  } finally {
    await closeDescriptor(place)
  }
}

/** Undefined where the file system refuses direct I/O. */
export async function openDirect(
  t: Test,
  path: string,
  write = false,
): Promise<number | undefined> {
  try {
    return await open(t, path, { write, direct: true })
  } catch (error) {
    if (error instanceof SystemError && error.code === 'EINVAL') return undefined
    throw error
  }
}

/** A file with `data` at `offset` of each entry, holes elsewhere. */
export function createFile(
  path: string,
  size: number,
  entries: readonly { offset: number; data: Buffer }[] = [],
): string {
  const fd = openSync(path, 'w')
  for (const { offset, data } of entries) writeSync(fd, data, 0, data.length, offset)
  closeSync(fd)
  truncateSync(path, size)
  return path
}

/** Why there can be no loop devices; false when there can. */
export function whyNoLoopDevices(): string | false {
  if (process.getuid?.() !== 0) return 'loop devices need root'
  if (!existsSync('/dev/loop-control')) return 'no /dev/loop-control'
  return false
}

/** A block device over a new file. */
export function createLoopDevice(
  t: Test,
  { size, sectorSize }: { size: number; sectorSize: number },
): { device: string; file: string } {
  const file = createFile(join(diskDirectory(t), 'backing'), size)
  const options = ['--find', '--show', '--sector-size', String(sectorSize), file]
  const device = execFileSync('losetup', options, { encoding: 'utf8' }).trim()
  t.teardown(() => execFileSync('losetup', ['--detach', device]))
  return { device, file }
}
