/**
 * A certificate authority for this checkout and a server certificate signed by it, so that clients
 * check certificates as they will in production. Made once; made again when about to expire or when
 * the server is to have another name.
 */
import { execFile } from 'node:child_process'
import { randomBytes, X509Certificate } from 'node:crypto'
import { chmod, mkdtemp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { StartError } from './start-error.js'

export interface Pki {
  readonly caFile: string
  readonly certFile: string
  readonly keyFile: string
}

const LOCAL_NAMES = ['localhost', '127.0.0.1', '::1']
const VALID_DAYS = 397 // browsers refuse server certificates of a longer life
const RENEW_BEFORE_MS = 7 * 24 * 3600 * 1000

/** `name` is the server's, beside those of the loopback. Throws StartError. */
export async function preparePki(dir: string, name: string): Promise<Pki> {
  const names = [...new Set([...LOCAL_NAMES, name])]
  const pki = {
    caFile: join(dir, 'ca.pem'),
    certFile: join(dir, 'server.pem'),
    keyFile: join(dir, 'server.key'),
  }
  if (await isUsable(pki, names)) return pki
  await mkdir(join(dir, '..'), { recursive: true, mode: 0o700 })
  // mkdtemp makes directories only their owner can enter, before there is a key in it.
  const made = await mkdtemp(`${dir}.`)
  try {
    await makeCertificates(made, names)
    await rm(dir, { recursive: true, force: true })
    await rename(made, dir)
  } catch (cause) {
    await rm(made, { recursive: true, force: true })
    // Another start may have been quicker.
    if (!(await isUsable(pki, names))) throw cause
  }
  return pki
}

async function isUsable({ caFile, certFile, keyFile }: Pki, names: string[]): Promise<boolean> {
  try {
    const ca = new X509Certificate(await readFile(caFile))
    const cert = new X509Certificate(await readFile(certFile))
    await readFile(keyFile)
    const isFresh = (one: X509Certificate): boolean =>
      one.validToDate.getTime() - Date.now() > RENEW_BEFORE_MS
    const isNamed = (name: string): boolean =>
      (isIP(name) ? cert.checkIP(name) : cert.checkHost(name)) !== undefined
    return isFresh(ca) && isFresh(cert) && cert.verify(ca.publicKey) && names.every(isNamed)
  } catch {
    return false
  }
}

async function makeCertificates(dir: string, names: string[]): Promise<void> {
  const file = (name: string): string => join(dir, name)
  await writeFile(file('openssl.cnf'), opensslConfig(names))
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-sha256']
  const config = ['-config', file('openssl.cnf')]
  await openssl(
    'req',
    '-x509',
    ...key,
    ...config,
    '-extensions',
    'ca',
    '-days',
    `${VALID_DAYS}`,
    '-subj',
    '/CN=imageio development CA',
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.pem'),
  )
  await openssl(
    'req',
    '-new',
    ...key,
    ...config,
    '-subj',
    '/CN=imageio development server',
    '-keyout',
    file('server.key'),
    '-out',
    file('server.csr'),
  )
  await openssl(
    'x509',
    '-req',
    '-in',
    file('server.csr'),
    '-CA',
    file('ca.pem'),
    '-CAkey',
    file('ca.key'),
    '-set_serial',
    `0x7f${randomBytes(15).toString('hex')}`,
    '-days',
    `${VALID_DAYS}`,
    '-sha256',
    '-extfile',
    file('openssl.cnf'),
    '-extensions',
    'server',
    '-out',
    file('server.pem'),
  )
  await Promise.all(['ca.key', 'server.key'].map((name) => chmod(file(name), 0o600)))
  await Promise.all(['openssl.cnf', 'server.csr'].map((name) => rm(file(name))))
}

/** Everything is said here, since the system's own configuration of openssl may say anything. */
function opensslConfig(names: string[]): string {
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
