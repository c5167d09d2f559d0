/** The daemon's system calls, watched or made to fail. */
import type { Test } from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Daemon } from './daemon.js'
import { until } from './wait.js'

function hasStrace(): boolean {
  try {
    execFileSync('strace', ['-V'], { stdio: 'ignore' })
    return process.getuid?.() === 0
  } catch {
    return false
  }
}

export const skipWithoutStrace = hasStrace() ? false : 'needs strace and root'

/** Counts the calls that make data durable, as the kernel sees them. */
export async function watchSyncs(t: Test, daemon: Daemon): Promise<() => number> {
  const file = join(daemon.dir, 'strace')
  await attach(t, daemon, ['-o', file, '-e', 'trace=fsync,fdatasync,sync_file_range,syncfs'])
  return () => (readFileSync(file, 'utf8').match(/sync\(\d/g) ?? []).length
}

/** Every fdatasync() fails with EIO until the function that is returned was called. */
export async function failSyncs(t: Test, daemon: Daemon): Promise<() => Promise<void>> {
  const inject = ['-e', 'trace=fdatasync', '-e', 'inject=fdatasync:error=EIO']
  return attach(t, daemon, ['-o', '/dev/null', ...inject])
}

async function attach(
  t: Test,
  daemon: Daemon,
  args: readonly string[],
): Promise<() => Promise<void>> {
  const strace = spawn('strace', ['-f', '-qq', ...args, '-p', String(daemon.pid)], {
    stdio: 'ignore',
  })
  const exited = once(strace, 'exit')
  const detach = async (): Promise<void> => {
    strace.kill()
    await exited
  }
  // Done before the daemon is ended: a signal that comes while strace lets go may be lost.
  t.teardown(detach)
  const isTraced = (): boolean =>
    !/TracerPid:\s+0\b/.test(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))
  await until('strace is attached', isTraced)
  return detach
}

/** The same for every close of a file. */
export async function failCloses(
  t: Test,
  daemon: Daemon,
  file: string,
): Promise<() => Promise<void>> {
  const inject = ['-e', 'trace=close', '-e', 'inject=close:error=EIO', '-P', file]
  return attach(t, daemon, ['-o', '/dev/null', ...inject])
}
