import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readTlsMaterial, tlsOptions } from '../../../core/http/tls.js'
import { testPki } from '../../support/pki.js'

t.test('a key and its certificate are read', async (t) => {
  const { keyFile, certFile } = testPki()
  const { key, cert } = readTlsMaterial(keyFile, certFile)
  t.ok(key.equals(readFileSync(keyFile)))
  t.ok(cert.equals(readFileSync(certFile)))
})

t.test('what cannot be used is told by the names of the files', async (t) => {
  const { keyFile, certFile, caFile } = testPki()
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const empty = join(dir, 'empty')
  writeFileSync(empty, '')
  const pairs = [
    [join(dir, 'missing'), certFile],
    [keyFile, join(dir, 'missing')],
    [keyFile, caFile], // of another key
    [certFile, keyFile],
    [empty, certFile],
    [keyFile, empty],
  ] as const
  for (const [key, cert] of pairs) {
    const attempt = (): unknown => readTlsMaterial(key, cert)
    t.throws(attempt, { message: new RegExp(`${key} with certificate ${cert}: .+`) })
  }
})

t.test('suites are AEAD, and of TLS 1.2 those with forward secrecy', async (t) => {
  const { minVersion, ciphers = '' } = tlsOptions({ key: Buffer.alloc(0), cert: Buffer.alloc(0) })
  t.equal(minVersion, 'TLSv1.2')
  for (const suite of ciphers.split(':')) {
    t.match(suite, /^(TLS_|ECDHE-)/)
    t.match(suite, /GCM|POLY1305/)
  }
})
