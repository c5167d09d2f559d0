/**
 * Users and their passwords: a file with a line `USER:HASH` for each. It is read again when it
 * changed. A user that does not exist takes as long to refuse as a wrong password.
 */
import { randomBytes } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { replaceFile } from '../core/directories/replace-file.js'
import { hashPassword, isPasswordHash, matchesHash } from './password-hash.js'

/** Who may use the API. */
export interface Users {
  /** Whether this user has this password. */
  verify(user: string, password: string): Promise<boolean>
  /** Changes with the password of the user; undefined when there is no such user. */
  credential(user: string): Promise<string | undefined>
  /** Changes whenever a password may have changed, so that nobody remembers old ones. */
  version(): Promise<string>
}

const NO_FILE = 'none'

export class PasswordFile implements Users {
  readonly #path: string
  #loaded: { readonly version: string; readonly entries: ReadonlyMap<string, string> } | undefined
  /** For users that do not exist. */
  #decoy: Promise<string> | undefined

  constructor(path: string) {
    this.#path = path
  }

  async verify(user: string, password: string): Promise<boolean> {
    const entry = (await this.#entries()).get(user)
    this.#decoy ??= hashPassword(randomBytes(16).toString('hex'))
    const matches = await matchesHash(password, entry ?? (await this.#decoy))
    return matches && entry !== undefined
  }

  /** The hash, with its salt. */
  async credential(user: string): Promise<string | undefined> {
    return (await this.#entries()).get(user)
  }

  async version(): Promise<string> {
    try {
      const { mtimeNs, ino, size } = await stat(this.#path, { bigint: true })
      return [mtimeNs, ino, size].join(' ')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NO_FILE
      throw error
    }
  }

  async #entries(): Promise<ReadonlyMap<string, string>> {
    const version = await this.version()
    if (this.#loaded?.version !== version) {
      // Before the first password is set there are no users.
      const text = version === NO_FILE ? '' : await readFile(this.#path, 'utf8')
      this.#loaded = { version, entries: parseFile(this.#path, text) }
    }
    return this.#loaded.entries
  }
}

/** Throws an Error that names the line. */
export function parsePasswords(text: string): Map<string, string> {
  const entries = new Map<string, string>()
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    const colon = line.indexOf(':')
    const [user, hash] = [line.slice(0, colon), line.slice(colon + 1).trim()]
    if (!isUserName(user) || !isPasswordHash(hash)) {
      throw new Error(`line ${index + 1} is not USER:HASH: mend or remove it`)
    }
    entries.set(user, hash)
  }
  return entries
}

function parseFile(path: string, text: string): Map<string, string> {
  try {
    return parsePasswords(text)
  } catch (cause) {
    throw new Error(`${path}: ${(cause as Error).message}`, { cause })
  }
}

/** HTTP's Basic ends the name at the first colon; the rest is for the sake of lines and logs. */
export function isUserName(text: string): boolean {
  return /^[^\s:#\p{Cc}][^:\p{Cc}]{0,127}$/u.test(text)
}

export const BAD_NAME = 'a user name has 1 to 128 characters, no colon and no control characters'

/** Adds or changes a user: a new file in the old one's place, for its owner alone. */
export async function setPassword(path: string, user: string, password: string): Promise<void> {
  if (!isUserName(user)) throw new Error(BAD_NAME)
  if (password === '') throw new Error('the password is empty')
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  })
  parseFile(path, text) // a file that is something else is not to be overwritten
  const entry = `${user}:${await hashPassword(password)}`
  const lines = text.split('\n').filter((line) => line !== '')
  const index = lines.findIndex((line) => line.startsWith(`${user}:`))
  if (index < 0) lines.push(entry)
  else lines[index] = entry
  await replaceFile(path, `${lines.join('\n')}\n`).catch((cause: unknown) => {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    const advice = 'make it, or mend [transfers] password_file'
    throw new Error(`the directory ${dirname(path)} does not exist: ${advice}`, { cause })
  })
}
