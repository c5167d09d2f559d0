/** From root to the service's own user, its group and supplementary groups, for good. */
import { spawnSync } from 'node:child_process'
import { closeSync, constants, fchownSync, fstatSync, lchownSync, openSync } from 'node:fs'

/** Missing in @types/node. */
const withInitgroups = process as unknown as { initgroups(user: string, group: number): void }

export interface DropOptions {
  readonly user: string
  readonly group: string
  /**
   * What the user must own afterwards: run_dir with what is recorded there, the control socket, the log
   * with its old files, or rotation fails. Missing ones and abstract sockets are skipped.
   */
  readonly chown: readonly string[]
}

/** True when privileges were dropped, false when the process is not root. */
export function dropPrivileges({ user, group, chown }: DropOptions): boolean {
  if (process.geteuid?.() !== 0) return false
  const uid = lookUpId('passwd', user)
  const gid = lookUpId('group', group)
  for (const path of chown) handOver(path, uid, gid)
  // In this order: each step needs the rights the next one gives away.
  withInitgroups.initgroups(user, gid)
  process.setgid?.(gid)
  process.setuid?.(uid)
  return true
}

/** In a directory the user owns, a link of either kind could lead to any file of root's. */
function handOver(path: string, uid: number, gid: number): void {
  if (path === '' || path.startsWith('\0')) return
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  let fd: number
  try {
    fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    // A socket, or a link itself.
    if (code !== 'ENXIO' && code !== 'ELOOP') throw error
    lchownSync(path, uid, gid)
    return
  }
  try {
    const found = fstatSync(fd)
    if (!found.isFile() || found.nlink === 1) fchownSync(fd, uid, gid)
  } finally {
    closeSync(fd)
  }
}

/** getent asks every source the system knows, as initgroups does. Both records hold the id third. */
export function lookUpId(database: 'passwd' | 'group', name: string): number {
  const kind = database === 'passwd' ? 'user' : 'group'
  const { stdout, error } = spawnSync('getent', [database, '--', name], { encoding: 'utf8' })
  if (error !== undefined) {
    throw new Error(`cannot drop privileges: cannot run getent: ${error.message}`, { cause: error })
  }
  const [found, , id] = stdout.split(':')
  // getent takes ids as well, and answers with another name.
  if (found !== name || !id) throw new Error(`cannot drop privileges: unknown ${kind} "${name}"`)
  return Number(id)
}
