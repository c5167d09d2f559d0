/** Loop devices and small file systems on them, gone again at the end of the test. Needs root. */
import { execFile } from 'node:child_process'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'

const run = promisify(execFile)

export interface LoopDevice {
  /** The device node. */
  readonly path: string
  /** The file that holds its bytes. */
  readonly backing: string
}

/** False when loop devices can be made here, else why not. */
export async function withoutLoopDevices(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'loop devices need root'
  try {
    await run('losetup', ['--find'])
    return false
  } catch {
    return 'no loop devices on this machine'
  }
}

export async function loopDevice(
  t: Test,
  {
    size,
    sectorSize = 512,
    isReadOnly = false,
  }: { size: number; sectorSize?: number; isReadOnly?: boolean },
): Promise<LoopDevice> {
  const directory = await mkdtemp(join(tmpdir(), 'imageio-loop-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const backing = join(directory, 'backing')
  const file = await open(backing, 'w')
  await file.truncate(size)
  await file.close()
  const options = ['--find', '--show', '--sector-size', String(sectorSize)]
  if (isReadOnly) options.push('--read-only')
  const { stdout } = await run('losetup', [...options, backing])
  const path = stdout.trim()
  t.teardown(() => run('losetup', ['--detach', path]))
  return { path, backing }
}

/** Mounts a new file system of this size; resolves with its directory. */
export async function mountedFileSystem(
  t: Test,
  { size, type = 'ext4', sectorSize = 512 }: { size: number; type?: string; sectorSize?: number },
): Promise<string> {
  const { path } = await loopDevice(t, { size, sectorSize })
  await run(`mkfs.${type}`, [type === 'xfs' ? '-f' : '-F', '-q', path])
  return mount(t, [path])
}

/** A tmpfs of this size. */
export function mountedTmpfs(t: Test, { size }: { size: number }): Promise<string> {
  return mount(t, ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs'])
}

async function mount(t: Test, what: string[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'imageio-mount-'))
  await run('mount', [...what, directory])
  t.teardown(async () => {
    await run('umount', [directory])
    await rm(directory, { recursive: true, force: true })
  })
  return directory
}
