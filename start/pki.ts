/**
 * A certificate authority for this checkout, kept for as long as it is valid, and a server certificate
 * signed by it for each run: clients check certificates as they will in production, and need the CA
 * once, whatever the server is called next time.
 */
import { execFile } from 'node:child_process'
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { StartError } from './start-error.js'

export interface Pki {
  readonly caFile: string
  readonly certFile: string
  readonly keyFile: string
}

export interface PkiOptions {
  /** Holds the CA; made if need be. */
  readonly caDir: string
  /** Private to this run, for the server's certificate and key. */
  readonly runDir: string
  /** The server's, beside those of the loopback. */
  readonly name: string
}

interface Authority {
  readonly certFile: string
  readonly keyFile: string
}

const LOCAL_NAMES = ['localhost', '127.0.0.1', '::1']
const CA_DAYS = 3650 // whoever added it to a browser's or the system's store does not want to again
const SERVER_DAYS = 397 // browsers refuse server certificates of a longer life
const RENEW_BEFORE_MS = 7 * 24 * 3600 * 1000
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-sha256']

/** Throws StartError. */
export async function preparePki({ caDir, runDir, name }: PkiOptions): Promise<Pki> {
  const authority = { certFile: join(caDir, 'ca.pem'), keyFile: join(caDir, 'ca.key') }
  if (!(await isUsable(authority))) await replaceAuthority(caDir, authority)
  const names = [...new Set([...LOCAL_NAMES, name])]
  return { caFile: authority.certFile, ...(await signServer(authority, runDir, names)) }
}

async function isUsable({ certFile, keyFile }: Authority): Promise<boolean> {
  try {
    const certificate = new X509Certificate(await readFile(certFile))
    const isFresh = certificate.validToDate.getTime() - Date.now() > RENEW_BEFORE_MS
    return isFresh && certificate.checkPrivateKey(createPrivateKey(await readFile(keyFile)))
  } catch {
    return false
  }
}

/** The directory appears complete or not at all; of starts at the same time the first one wins. */
async function replaceAuthority(caDir: string, authority: Authority): Promise<void> {
  await mkdir(join(caDir, '..'), { recursive: true, mode: 0o700 })
  // mkdtemp makes directories only their owner can enter, before there is a key in it.
  const made = await mkdtemp(`${caDir}.`)
  try {
    await makeAuthority(made)
    if ((await moveTo(caDir, made)) || (await isUsable(authority))) return
    await rename(caDir, `${made}.old`).catch(() => undefined)
    await moveTo(caDir, made)
  } finally {
    await rm(made, { recursive: true, force: true })
    await rm(`${made}.old`, { recursive: true, force: true })
  }
}

/** False when there is something already. */
async function moveTo(target: string, made: string): Promise<boolean> {
  try {
    await rename(made, target)
    return true
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(code)) return false
    throw error
  }
}

async function makeAuthority(dir: string): Promise<void> {
  const config = join(dir, 'openssl.cnf')
  const [keyFile, certFile] = [join(dir, 'ca.key'), join(dir, 'ca.pem')]
  await writeFile(config, opensslConfig(LOCAL_NAMES))
  await openssl(
    ...['req', '-x509', ...NEW_KEY, '-config', config, '-extensions', 'ca'],
    ...['-days', `${CA_DAYS}`, '-subj', '/CN=imageio development CA'],
    ...['-keyout', keyFile, '-out', certFile],
  )
  await chmod(keyFile, 0o600)
  await rm(config)
}

async function signServer(
  authority: Authority,
  dir: string,
  names: readonly string[],
): Promise<{ certFile: string; keyFile: string }> {
  const [keyFile, certFile] = [join(dir, 'server.key'), join(dir, 'server.pem')]
  const [config, request] = [join(dir, 'openssl.cnf'), join(dir, 'server.csr')]
  await writeFile(config, opensslConfig(names))
  await openssl(
    ...['req', '-new', ...NEW_KEY, '-config', config],
    ...['-subj', '/CN=imageio development server', '-keyout', keyFile, '-out', request],
  )
  await openssl(
    ...['x509', '-req', '-in', request, '-CA', authority.certFile, '-CAkey', authority.keyFile],
    ...['-set_serial', `0x7f${randomBytes(15).toString('hex')}`, '-days', `${SERVER_DAYS}`],
    ...['-sha256', '-extfile', config, '-extensions', 'server', '-out', certFile],
  )
  await chmod(keyFile, 0o600)
  await Promise.all([config, request].map((path) => rm(path)))
  return { certFile, keyFile }
}

/** Everything is said here, since the system's own configuration of openssl may say anything. */
function opensslConfig(names: readonly string[]): string {
  const subjects = names.map((name) => `${isIP(name) ? 'IP' : 'DNS'}:${name}`).join(',')
  return `[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = ${subjects}
`
}

async function openssl(...args: string[]): Promise<void> {
  await promisify(execFile)('openssl', args).catch((cause: unknown) => {
    const { code, message } = cause as NodeJS.ErrnoException
    const reason = code === 'ENOENT' ? 'it is not installed' : message.trim()
    throw new StartError(`openssl cannot make a certificate: ${reason}`, { cause })
  })
}
