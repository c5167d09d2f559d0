/** Whether anybody can log in, and nobody else reads the hashes. */
import { readFile, stat } from 'node:fs/promises'
import { describe, isMissing, type Preflight } from '../core/process/host-checks.js'
import { parsePasswords } from './password-file.js'

const OPTION = '[transfers] password_file'
const HOW = 'imageio-transfers passwd sets a password'

export async function checkLogins(path: string): Promise<Preflight> {
  if (await isMissing(path)) {
    return warning(`${path} does not exist: nobody can log in; ${HOW}`)
  }
  let users: number
  try {
    users = parsePasswords(await readFile(path, 'utf8')).size
  } catch (error) {
    return { problems: [`${OPTION}: ${path}: ${faultOf(error)}`], warnings: [] }
  }
  if (users === 0) return warning(`${path} has no users: nobody can log in; ${HOW}`)
  const { mode } = await stat(path)
  if ((mode & 0o022) !== 0) {
    return warning(`${path} can be changed by others than its owner: chmod 600 ${path}`)
  }
  if ((mode & 0o004) === 0) return { problems: [], warnings: [] }
  return warning(`${path} can be read by every user of this machine: chmod 600 ${path}`)
}

function warning(text: string): Preflight {
  return { problems: [], warnings: [`${OPTION}: ${text}`] }
}

function faultOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  const isForbidden = code === 'EACCES' || code === 'EPERM'
  const how = isForbidden ? ': let the user of the service read it (chown)' : ''
  return describe(error) + how
}
