/** A PostgreSQL server of its own, on a Unix socket in a temporary directory. */
import { execFileSync } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** Debian keeps them out of PATH, one directory per version. */
const VERSIONS = '/usr/lib/postgresql'

/** For `skip`: false when a server can be started here, else why not. */
export function withoutPostgres(): string | false {
  if (binDir() === undefined) return 'postgresql is not installed'
  return isRoot() && accountOf('nobody') === undefined ? 'there is no user nobody' : false
}

export interface Postgres {
  /** Of its database. */
  readonly url: string
  /** Crashes it, as a power failure would, and starts it again. */
  crash(): void
}

/** Stopped and removed when the test ends. */
export function startPostgres(t: Test): Postgres {
  const bin = binDir()
  if (bin === undefined) throw new Error('postgresql is not installed')
  const dir = mkdtempSync(join(tmpdir(), 'imageio-pg-'))
  const account = isRoot() ? accountOf('nobody') : undefined
  if (account !== undefined) chownSync(dir, account.uid, account.gid)
  const data = join(dir, 'data')
  const run = (program: string, ...args: string[]): void => {
    const env = { PATH: process.env['PATH'], LC_ALL: 'C' }
    execFileSync(join(bin, program), args, { ...account, env, cwd: dir, stdio: 'pipe' })
  }
  const start = (): void => {
    const options = `-c listen_addresses= -c unix_socket_directories=${dir}`
    run('pg_ctl', '-D', data, '-l', join(dir, 'log'), '-w', '-t', '60', '-o', options, 'start')
  }
  const stop = (mode: string): void => run('pg_ctl', '-D', data, '-m', mode, '-w', 'stop')
  t.teardown(() => {
    try {
      stop('immediate')
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
  run('initdb', '-D', data, '-U', 'imageio', '-A', 'trust', '-E', 'UTF8', '--no-sync')
  start()
  return {
    url: `postgresql://imageio@/postgres?host=${encodeURIComponent(dir)}`,
    crash: () => {
      stop('immediate')
      start()
    },
  }
}

function binDir(): string | undefined {
  if (!existsSync(VERSIONS)) return undefined
  return readdirSync(VERSIONS)
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(VERSIONS, version, 'bin'))
    .find((dir) => existsSync(join(dir, 'initdb')))
}

function isRoot(): boolean {
  return process.geteuid?.() === 0
}

/** The server refuses to run as root. */
function accountOf(user: string): { uid: number; gid: number } | undefined {
  const id = (flag: string): number => Number(execFileSync('id', [flag, user], { stdio: 'pipe' }))
  try {
    return { uid: id('-u'), gid: id('-g') }
  } catch {
    return undefined
  }
}
