/** Key pairs of those who sign tickets. */
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { open, readFile, stat, unlink } from 'node:fs/promises'
import { basename, extname } from 'node:path'
import { algorithmsOf } from '../core/tickets/signed/verification-key.js'
import type { SigningKey } from '../core/tickets/signed/sign.js'
import { ControlError } from '../core/control/control-client.js'

/** Whoever can read the key can have any image served. */
const PRIVATE_MODE = 0o600
const PUBLIC_MODE = 0o644
const OTHERS = 0o077

/** Reads a private key (PEM). `warn` is told when others can read it, too. */
export async function readSigningKey(
  file: string,
  keyId: string | undefined,
  warn: (text: string) => void,
): Promise<SigningKey> {
  try {
    const { mode } = await stat(file)
    if ((mode & OTHERS) !== 0) warn(`${file}: others may access this private key (chmod 600)`)
    const key = createPrivateKey(await readFile(file))
    if (algorithmsOf(key) === undefined) throw new Error('it is neither Ed25519 nor P-256')
    return { key, id: keyId ?? basename(file, extname(file)) }
  } catch (cause) {
    throw fileError(file, cause)
  }
}

/** Writes a new Ed25519 pair, NAME.key and NAME.pem, over nothing that exists. */
export async function makeKeyPair(name: string): Promise<{ secret: string; shared: string }> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const [secret, shared] = [`${name}.key`, `${name}.pem`]
  await writeNew(secret, privateKey.export({ type: 'pkcs8', format: 'pem' }), PRIVATE_MODE)
  try {
    await writeNew(shared, publicKey.export({ type: 'spki', format: 'pem' }), PUBLIC_MODE)
  } catch (error) {
    await unlink(secret)
    throw error
  }
  return { secret, shared }
}

async function writeNew(file: string, text: string | Buffer, mode: number): Promise<void> {
  try {
    const handle = await open(file, 'wx', mode)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
  } catch (cause) {
    throw fileError(file, cause)
  }
}

function fileError(file: string, cause: unknown): ControlError {
  const { code, message } = cause as NodeJS.ErrnoException
  const reason = code === 'ENOENT' ? 'no such file' : code === 'EEXIST' ? 'exists' : message
  return new ControlError(`${file}: ${reason}`, { cause })
}
