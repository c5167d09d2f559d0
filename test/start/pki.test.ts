import { X509Certificate } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { connect, createServer } from 'node:tls'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { preparePki, type Pki } from '../../start/pki.js'

let runs = 0

/** What one start does, with a run directory of its own. */
async function prepare(t: Test, caDir: string, name = 'localhost'): Promise<Pki> {
  const runDir = join(t.testdirName, `run-${runs++}`)
  mkdirSync(runDir, { recursive: true })
  return preparePki({ caDir, runDir, name })
}

function certificate(file: string): X509Certificate {
  return new X509Certificate(readFileSync(file))
}

/** Whether a client that trusts the CA accepts the server. */
function isTrusted({ caFile, certFile }: Pki): boolean {
  return certificate(certFile).verify(certificate(caFile).publicKey)
}

t.test('a CA is made once, with a private key, and a certificate for each run', async (t) => {
  const caDir = join(t.testdir({}), '.dev', 'pki')
  const pki = await prepare(t, caDir, '127.0.0.1')
  const authority = readFileSync(pki.caFile)
  const made = certificate(pki.certFile)
  for (const name of ['127.0.0.1', '::1']) t.ok(made.checkIP(name), name)
  t.ok(made.checkHost('localhost'))
  t.ok(isTrusted(pki))
  t.equal(statSync(caDir).mode & 0o777, 0o700)
  for (const key of [join(caDir, 'ca.key'), pki.keyFile]) {
    t.equal(statSync(key).mode & 0o777, 0o600, key)
  }
  t.strictSame(readdirSync(caDir), ['ca.key', 'ca.pem'])
  t.strictSame(readdirSync(dirname(caDir)), ['pki'], 'nothing is left over')
  t.strictSame(readdirSync(dirname(pki.keyFile)), ['server.key', 'server.pem'])

  const second = await prepare(t, caDir)
  t.ok(readFileSync(second.caFile).equals(authority))
  t.not(second.certFile, pki.certFile)
  t.ok(isTrusted(second))
})

t.test('another name leaves the CA and running starts alone', async (t) => {
  const caDir = join(t.testdir({}), 'pki')
  const first = await prepare(t, caDir)
  const before = [first.caFile, first.certFile, first.keyFile].map((file) => readFileSync(file))
  const named = await prepare(t, caDir, 'disks.example')
  t.ok(certificate(named.certFile).checkHost('disks.example'))
  t.ok(isTrusted(named))
  const after = [first.caFile, first.certFile, first.keyFile].map((file) => readFileSync(file))
  t.strictSame(after, before)
})

t.test('a CA that is broken or has lost its key is made again', async (t) => {
  const caDir = join(t.testdir({}), 'pki')
  const first = await prepare(t, caDir)
  const authority = certificate(first.caFile).fingerprint256
  truncateSync(first.caFile, 10)
  const second = await prepare(t, caDir)
  const remade = certificate(second.caFile).fingerprint256
  t.not(remade, authority)
  rmSync(join(caDir, 'ca.key'))
  const third = await prepare(t, caDir)
  t.ok(isTrusted(third))
  t.not(certificate(third.caFile).fingerprint256, remade)
  t.strictSame(readdirSync(caDir), ['ca.key', 'ca.pem'])
  t.notOk(readdirSync(dirname(caDir)).some((name) => name.startsWith('pki.')))
})

t.test('starts at once share one CA', async (t) => {
  const caDir = join(t.testdir({}), 'pki')
  const pkis = await Promise.all(Array.from({ length: 5 }, () => prepare(t, caDir)))
  t.ok(pkis.every(isTrusted))
})

t.test('a client that trusts the CA accepts the server', async (t) => {
  const pki = await prepare(t, join(t.testdir({}), 'pki'), '127.0.0.1')
  const server = createServer({ key: readFileSync(pki.keyFile), cert: readFileSync(pki.certFile) })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const client = connect({ host: '127.0.0.1', port, ca: readFileSync(pki.caFile) })
  await once(client, 'secureConnect')
  t.ok(client.authorized)
  client.destroy()
})
