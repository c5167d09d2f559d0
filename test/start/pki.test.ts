import { X509Certificate } from 'node:crypto'
import { readFileSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { connect, createServer } from 'node:tls'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { preparePki, type Pki } from '../../start/pki.js'

function readCertificate({ certFile }: Pki): X509Certificate {
  return new X509Certificate(readFileSync(certFile))
}

t.test('a certificate for the loopback is made once, with private keys', async (t) => {
  const dir = join(t.testdir({}), '.dev', 'pki')
  const pki = await preparePki(dir, '127.0.0.1')
  const made = readCertificate(pki)
  for (const name of ['127.0.0.1', '::1']) t.ok(made.checkIP(name), name)
  t.ok(made.checkHost('localhost'))
  t.equal(statSync(dir).mode & 0o777, 0o700)
  for (const key of ['ca.key', 'server.key']) {
    t.equal(statSync(join(dir, key)).mode & 0o777, 0o600, key)
  }
  t.equal(readCertificate(await preparePki(dir, 'localhost')).fingerprint256, made.fingerprint256)
  t.strictSame(readdirSync(dirname(dir)), ['pki'], 'nothing is left over')
})

t.test('it is made again for another name, and when a file is missing or broken', async (t) => {
  const dir = join(t.testdir({}), 'pki')
  const first = readCertificate(await preparePki(dir, 'localhost')).fingerprint256
  const named = await preparePki(dir, 'disks.example')
  t.ok(readCertificate(named).checkHost('disks.example'))
  const second = readCertificate(named).fingerprint256
  t.not(second, first)
  truncateSync(named.caFile, 10)
  const third = readCertificate(await preparePki(dir, 'localhost')).fingerprint256
  t.not(third, second)
  rmSync(named.keyFile)
  t.not(readCertificate(await preparePki(dir, 'localhost')).fingerprint256, third)
})

t.test('two starts at once both get a certificate that works', async (t) => {
  const dir = join(t.testdir({}), 'pki')
  const pkis = await Promise.all([preparePki(dir, 'localhost'), preparePki(dir, 'localhost')])
  t.ok(pkis.every((pki) => readCertificate(pki).checkHost('localhost')))
})

t.test('a client that trusts the CA accepts the server', async (t) => {
  const pki = await preparePki(join(t.testdir({}), 'pki'), '127.0.0.1')
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
