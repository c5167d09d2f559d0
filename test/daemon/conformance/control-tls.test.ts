/** [control] transport = tls: who may manage tickets from other machines. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import { ControlClient } from '../../../core/control/control-client.js'
import { freePort, startDaemon, ticketFields, type Daemon } from '../../support/daemon.js'
import { clientCertificate, testPki, type ClientCertificate } from '../../support/pki.js'
import { until, within } from '../../support/wait.js'

const NAME = 'transfers.example.com'

async function start(t: Test, more: Record<string, string> = {}) {
  const port = await freePort()
  const control = {
    ...{ transport: 'tls', host: '127.0.0.1', port, ca_file: testPki('management').caFile },
    ...{ allowed_clients: `other.example.com  ${NAME}`, ...more },
  }
  const daemon = await startDaemon(t, { config: { control } })
  const client = ({ certFile, keyFile }: ClientCertificate, caFile = daemon.caFile) =>
    new ControlClient({
      address: {
        ...{ host: '127.0.0.1', port },
        tls: { ca: readFileSync(caFile), cert: readFileSync(certFile), key: readFileSync(keyFile) },
      },
      timeoutMs: 10_000,
    })
  return { daemon, port, control, client }
}

const management = (subject: string, extensions?: string): ClientCertificate =>
  clientCertificate(testPki('management'), subject, extensions)

t.test('a client with a certificate and a name manages tickets', async (t) => {
  const { daemon, client } = await start(t)
  const byName = client(management(`/O=Example/CN=${NAME}`))
  const { uuid, ...rest } = ticketFields()
  await byName.add(uuid, JSON.stringify({ uuid, ...rest }))
  t.equal((await daemon.ticket(uuid)).uuid, uuid, 'the socket is there as well')
  const byDns = client(management('/CN=other', `subjectAltName=DNS:a.example.com,DNS:${NAME}`))
  t.match(JSON.parse(String(await byDns.get(uuid))), { uuid })
  await byDns.remove(uuid)
  t.equal((await daemon.controlRequest('GET', `/tickets/${uuid}`)).status, 404)
})

t.test('others are not let in', async (t) => {
  const { daemon, port, client } = await start(t)
  const refused = async (certificate: ClientCertificate, why: string): Promise<void> => {
    await t.rejects(client(certificate).list(), { name: 'ControlError' }, why)
  }
  await refused(management('/CN=stranger'), 'another name')
  await refused(management(`/CN=${NAME}.evil.com`), 'a longer name')
  await refused(management(`/CN=x/CN=${NAME}`), 'two names')
  await refused(management('/CN=x', 'subjectAltName=DNS:*.example.com'), 'a wildcard')
  await refused(management(`/O=${NAME}`), 'the name elsewhere')
  await refused(management(`/CN=${NAME}`, 'extendedKeyUsage=serverAuth'), 'of a server')
  await refused(clientCertificate(testPki(), `/CN=${NAME}`), 'another authority')
  await refused(clientCertificate(testPki('evil'), `/CN=${NAME}`), 'an unknown authority')
  t.match(daemon.logText(), /"name":"stranger","reason":"not in the list"/)

  const bare = connect({ host: '127.0.0.1', port, ca: daemon.ca })
  let received = ''
  bare.on('data', (chunk) => void (received += String(chunk)))
  const closed = new Promise((resolve) => bare.once('close', resolve))
  bare.on('error', () => undefined)
  bare.write('GET /tickets HTTP/1.1\r\n\r\n')
  await within('the connection ends', 10_000, closed)
  t.equal(received, '', 'without a certificate')
  t.equal((await daemon.controlRequest('GET', '/tickets')).status, 200)
})

t.test('SIGHUP takes another authority', async (t) => {
  const { daemon, control, client } = await start(t)
  const [old, next] = [management(`/CN=${NAME}`), clientCertificate(testPki('next'), `/CN=${NAME}`)]
  await client(old).list()
  await t.rejects(client(next).list())
  daemon.configure({ control: { ...control, ca_file: testPki('next').caFile } })
  daemon.process.kill('SIGHUP')
  await reloaded(daemon)
  await client(next).list()
  await t.rejects(client(old).list())
  daemon.configure({ control: { ...control, ca_file: '/nonexistent' } })
  daemon.process.kill('SIGHUP')
  await until('the mistake is told', () => daemon.logText().includes('cannot reload'))
  await client(next).list()
})

t.test('SIGHUP takes another list of clients, and dismisses who is not in it', async (t) => {
  const { daemon, port, control, client } = await start(t)
  const [old, next] = [management(`/CN=${NAME}`), management('/CN=next.example.com')]
  await t.rejects(
    client(next).list(),
    /closed the connection, or this client is not allowed there$/,
  )
  const kept = await keepConnection(port, old)
  t.match(await kept.ask(), /^HTTP\/1.1 200/)
  daemon.configure({ control: { ...control, allowed_clients: 'next.example.com' } })
  daemon.process.kill('SIGHUP')
  await reloaded(daemon)
  await client(next).list()
  await t.rejects(client(old).list())
  await within('the end of the connection that was there', 10_000, kept.closed)
  t.match(daemon.logText(), 'client not in the list any more')
})

t.test('SIGHUP leaves clients alone that are still in the list', async (t) => {
  const { daemon, port, control } = await start(t)
  const kept = await keepConnection(port, management(`/CN=${NAME}`))
  t.match(await kept.ask(), /^HTTP\/1.1 200/)
  daemon.configure({ control: { ...control, allowed_clients: `${NAME} more.example.com` } })
  daemon.process.kill('SIGHUP')
  await reloaded(daemon)
  t.match(await kept.ask(), /^HTTP\/1.1 200/)
})

/** One connection for several requests. */
async function keepConnection(port: number, { certFile, keyFile }: ClientCertificate) {
  const socket = connect({
    ...{ host: '127.0.0.1', port, ca: readFileSync(testPki().caFile) },
    ...{ cert: readFileSync(certFile), key: readFileSync(keyFile) },
  })
  const closed = once(socket, 'close')
  let received = ''
  socket.on('data', (chunk) => void (received += String(chunk)))
  socket.on('error', () => undefined)
  await once(socket, 'secureConnect')
  const ask = async (): Promise<string> => {
    received = ''
    socket.write('GET /tickets HTTP/1.1\r\nHost: x\r\n\r\n')
    return until('an answer', () => received.includes('\r\n\r\n[]') && received)
  }
  return { ask, closed, end: () => socket.destroy() }
}

function reloaded(daemon: Daemon): Promise<true> {
  return until('the reload', () => daemon.logText().includes('certificate reloaded'))
}
