/** A private certificate authority and a server certificate for loopback, made once per test process. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

export interface Pki {
  readonly ca: string
  readonly caFile: string
  readonly certFile: string
  readonly keyFile: string
}

export interface ClientCertificate {
  readonly certFile: string
  readonly keyFile: string
}

/** For a client of that subject, by the authority of `pki`; `extensions` in openssl's words. */
export function clientCertificate(
  pki: Pki,
  subject: string,
  extensions = 'extendedKeyUsage=clientAuth',
): ClientCertificate {
  const dir = dirname(pki.caFile)
  const file = (name: string): string => join(dir, name)
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' })
  const base = `client-${randomUUID()}`
  const [certFile, keyFile] = [file(`${base}.pem`), file(`${base}.key`)]
  openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', subject, '-keyout', keyFile, '-out', file(`${base}.csr`)],
  )
  writeFileSync(file(`${base}.ext`), `${extensions}\n`)
  openssl(
    ...['x509', '-req', '-in', file(`${base}.csr`), '-days', '2', '-extfile', file(`${base}.ext`)],
    ...['-CA', pki.caFile, '-CAkey', file('ca.key'), '-CAcreateserial', '-out', certFile],
  )
  return { certFile, keyFile }
}

const made = new Map<string, Pki>()

/** Another name is another authority. */
export function testPki(name = 'test'): Pki {
  const pki = made.get(name) ?? makePki(name)
  made.set(name, pki)
  return pki
}

function makePki(name: string): Pki {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-pki-'))
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }))
  const file = (name: string): string => join(dir, name)
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(
    ...['req', '-x509', ...newKey, '-days', '2', '-subj', `/CN=imageio ${name} authority`],
    ...['-keyout', file('ca.key'), '-out', file('ca.pem')],
  )
  openssl(
    ...['req', ...newKey, '-subj', '/CN=localhost'],
    ...['-keyout', file('server.key'), '-out', file('server.csr')],
  )
  writeFileSync(file('ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n')
  openssl(
    ...['x509', '-req', '-in', file('server.csr'), '-days', '2', '-extfile', file('ext')],
    ...['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial'],
    ...['-out', file('server.pem')],
  )
  return {
    ca: readFileSync(file('ca.pem'), 'utf8'),
    caFile: file('ca.pem'),
    certFile: file('server.pem'),
    keyFile: file('server.key'),
  }
}
