/**
 * The public keys tokens are verified with, from a directory or a JWK set. They are looked at again and
 * again instead of being watched: that also sees files that are renamed into place, links that are
 * swapped as Kubernetes does, and network file systems, which tell nobody.
 */
import { open, readdir, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { parseExactJson } from '../../json.js'
import type { Logger } from '../../log.js'
import { KiB } from '../../units.js'
import { TokenRefusedError } from './errors.js'
import type { TokenHeader } from './token.js'
import { keyOfJwk, keyOfPem, type Algorithm, type VerificationKey } from './verification-key.js'

/** What a file held when it could last be used. */
interface KnownFile {
  /** Changes with the file. */
  readonly state: string
  readonly keys: readonly VerificationKey[]
}

const POLL_MS = 2000
const MAX_FILE = 256 * KiB
/** Files of a directory, and keys of a set. */
const MAX_KEYS = 256

export class KeyRing {
  readonly #path: string
  readonly #logger: Logger
  readonly #poll: NodeJS.Timeout
  #files = new Map<string, KnownFile>()
  #keys = new Map<string, VerificationKey>()
  /** Keys whose kid another one has, which has been logged. */
  #twins = new Set<VerificationKey>()
  #reading: Promise<void> | undefined
  /** The last failure, so that it is logged once and not at every look. */
  #failure: string | undefined

  /** Rejects when the place cannot be read; a file in it that cannot be used is logged. */
  static async open(path: string, logger: Logger): Promise<KeyRing> {
    const ring = new KeyRing(path, logger)
    try {
      await ring.#read()
    } catch (cause) {
      ring.close()
      throw unreadable(cause)
    }
    if (ring.#keys.size === 0) logger.warn({ path }, 'there are no keys of signed tickets')
    return ring
  }

  private constructor(path: string, logger: Logger) {
    this.#path = path
    this.#logger = logger
    this.#poll = setInterval(() => void this.reload(), POLL_MS).unref()
  }

  /** Looks now whether something has changed. What cannot be read leaves the keys as they are. */
  async reload(): Promise<void> {
    this.#reading ??= this.#read()
      .then(() => void (this.#failure = undefined))
      .catch((error: unknown) => this.#complain(reasonOf(error)))
      .finally(() => void (this.#reading = undefined))
    await this.#reading
  }

  /** Reads everything again, as the user the process is now. Rejects when the place cannot be read. */
  async proveAccess(): Promise<void> {
    await this.#reading
    this.#files = new Map()
    try {
      await this.#read()
    } catch (cause) {
      throw unreadable(cause)
    }
  }

  /** Whether the key is still to be trusted. */
  has({ id, fingerprint }: VerificationKey): boolean {
    return this.#keys.get(id)?.fingerprint === fingerprint
  }

  /** The one key the token may be signed with. Throws TokenRefusedError. */
  select({ algorithm, keyId }: TokenHeader): VerificationKey {
    const key = keyId === undefined ? this.#onlyKey(algorithm) : this.#keys.get(keyId)
    if (key === undefined) throw new TokenRefusedError('kid is no key of ours')
    if (key.algorithms.includes(algorithm)) return key
    throw new TokenRefusedError('alg is not the one of the key')
  }

  close(): void {
    clearInterval(this.#poll)
  }

  /** Not tried one after the other: which key a token is for must not be a matter of luck. */
  #onlyKey(algorithm: Algorithm): VerificationKey {
    const [only, other] = [...this.#keys.values()].filter(({ algorithms }) =>
      algorithms.includes(algorithm),
    )
    if (only !== undefined && other === undefined) return only
    throw new TokenRefusedError('kid is missing, and there is not exactly one key for alg')
  }

  async #read(): Promise<void> {
    const isDirectory = (await stat(this.#path)).isDirectory()
    const paths = isDirectory ? await listKeys(this.#path) : [this.#path]
    const files = new Map<string, KnownFile>()
    for (const path of paths) {
      const file = await this.#readFile(path, isDirectory)
      if (file !== undefined) files.set(path, file)
    }
    this.#files = files
    this.#use([...files.values()].flatMap(({ keys }) => keys))
  }

  /** What the file held before, when it has not changed, or cannot be used now. */
  async #readFile(path: string, isInDirectory: boolean): Promise<KnownFile | undefined> {
    const known = this.#files.get(path)
    let state = known?.state ?? ''
    try {
      const found = await stat(path, { bigint: true })
      state = [found.ino, found.size, found.mtimeNs, found.ctimeNs].join()
      if (state === known?.state) return known
      // To open a FIFO would wait for its writer.
      if (!found.isFile()) throw new Error('it is not a regular file')
      const bytes = await readBounded(path)
      const keys = isInDirectory ? [parseKey(path, bytes)] : this.#parseSet(path, bytes)
      return { state, keys }
    } catch (error) {
      if (isInDirectory && isGone(error)) return undefined
      if (!isInDirectory && known === undefined) throw error
      this.#logger.error({ path, reason: reasonOf(error) }, 'a key of signed tickets is no good')
      return { state, keys: known?.keys ?? [] }
    }
  }

  /** Keys of other kinds may be in a set (RFC 7517, 5). */
  #parseSet(path: string, bytes: Buffer): VerificationKey[] {
    const json = parseExactJson(bytes)
    const keys: unknown = typeof json === 'object' && json !== null && 'keys' in json && json.keys
    if (!Array.isArray(keys)) throw new Error('it is no JWK set')
    if (keys.length > MAX_KEYS) throw new Error(`it has more than ${MAX_KEYS} keys`)
    return keys.flatMap((jwk: unknown) => {
      try {
        return [keyOfJwk(jwk, undefined)]
      } catch (error) {
        this.#logger.warn({ path, reason: reasonOf(error) }, 'a key of the set is not used')
        return []
      }
    })
  }

  #use(found: readonly VerificationKey[]): void {
    const keys = new Map<string, VerificationKey>()
    const twins = new Set<VerificationKey>()
    for (const key of found) {
      if (keys.has(key.id)) twins.add(key)
      else keys.set(key.id, key)
    }
    for (const twin of twins) {
      if (this.#twins.has(twin)) continue
      this.#logger.error({ kid: twin.id }, 'a key is not used: another one has its kid')
    }
    this.#twins = twins
    const before = this.#keys
    this.#keys = keys
    const isSame =
      keys.size === before.size &&
      [...keys].every(([id, { fingerprint }]) => before.get(id)?.fingerprint === fingerprint)
    if (!isSame) this.#logger.info({ kids: [...keys.keys()] }, 'keys of signed tickets')
  }

  #complain(reason: string): void {
    if (reason === this.#failure) return
    this.#failure = reason
    this.#logger.error({ reason }, 'the keys of signed tickets cannot be read, keeping those known')
  }
}

async function listKeys(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => /^[^.].*\.(pem|jwk)$/.test(name))
  if (names.length > MAX_KEYS) throw new Error(`${directory} has more than ${MAX_KEYS} keys`)
  return names.sort().map((name) => join(directory, name))
}

function parseKey(path: string, bytes: Buffer): VerificationKey {
  const name = basename(path, extname(path))
  if (path.endsWith('.pem')) return keyOfPem(bytes.toString('latin1'), name)
  return keyOfJwk(parseExactJson(bytes), name)
}

async function readBounded(path: string): Promise<Buffer> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE + 1), 0, MAX_FILE + 1, 0)
    if (bytesRead > MAX_FILE) throw new Error(`it has more than ${MAX_FILE} bytes`)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

function unreadable(cause: unknown): Error {
  return new Error(`cannot read the keys of signed tickets: ${reasonOf(cause)}`, { cause })
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
