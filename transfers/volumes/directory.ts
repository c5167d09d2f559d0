/**
 * A directory that stays the same one during an operation, whatever becomes of its path: its entries
 * are reached through its descriptor, as with openat(2). No entry that is a link is followed.
 */
import { constants, type BigIntStats, type Dirent } from 'node:fs'
import { link, lstat, open, readdir, rename, unlink, type FileHandle } from 'node:fs/promises'

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants

/** File systems without hard links; on all others a volume never replaces another one. */
const NO_LINKS: ReadonlySet<string> = new Set([
  'EPERM',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EMLINK',
])

export class Directory {
  readonly #handle: FileHandle

  private constructor(handle: FileHandle) {
    this.#handle = handle
  }

  static async use<T>(path: string, body: (directory: Directory) => Promise<T>): Promise<T> {
    const handle = await open(path, O_RDONLY | O_DIRECTORY)
    try {
      return await body(new Directory(handle))
    } finally {
      await handle.close()
    }
  }

  /** `flags` as for open(2). */
  open(name: string, flags: number, mode?: number): Promise<FileHandle> {
    const opened = open(this.#at(name), flags | O_NOFOLLOW | O_NONBLOCK, mode)
    return opened.catch((error: unknown) => this.#refuse(error))
  }

  status(name: string): Promise<BigIntStats> {
    const status = lstat(this.#at(name), { bigint: true })
    return status.catch((error: unknown) => this.#refuse(error))
  }

  async has(name: string): Promise<boolean> {
    try {
      await this.status(name)
      return true
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
  }

  entries(): Promise<Dirent[]> {
    return readdir(this.#at('.'), { withFileTypes: true })
  }

  /** Rejects with EEXIST rather than to replace a file. */
  async publish(from: string, to: string): Promise<void> {
    try {
      await link(this.#at(from), this.#at(to))
      await unlink(this.#at(from))
    } catch (error) {
      if (!NO_LINKS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
      if (await this.has(to)) throw Object.assign(new Error(`${to} exists`), { code: 'EEXIST' })
      await this.rename(from, to)
    }
  }

  rename(from: string, to: string): Promise<void> {
    return rename(this.#at(from), this.#at(to))
  }

  async unlink(name: string): Promise<void> {
    await unlink(this.#at(name)).catch((error: unknown) => {
      if (!isMissing(error)) throw error
    })
  }

  /** Names made and removed are on stable storage. */
  sync(): Promise<void> {
    return this.#handle.sync()
  }

  #at(name: string): string {
    return `/proc/self/fd/${this.#handle.fd}/${name}`
  }

  /** Nobody knows the path that was used; in the message of the system it is the name. */
  #refuse(error: unknown): never {
    if (error instanceof Error) error.message = error.message.replaceAll(this.#at(''), '')
    throw error
  }
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}
