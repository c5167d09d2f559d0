/** The control service of a real daemon, over its socket, and over TLS with a certificate of the client. */
import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer, request as httpRequest } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { TicketControl, type TicketRequest } from '../../../transfers/hosts/ticket-control.js'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { setEnvironment } from '../../support/environment.js'
import { testPki, type Pki } from '../../support/pki.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { UNTOUCHED } from '../records.js'

const LIMITS = { timeoutMs: 5000, removeTimeoutMs: 15_000 }

function ticket(fields: Partial<TicketRequest> = {}): TicketRequest {
  return {
    uuid: randomUUID(),
    size: 8192,
    ops: ['write'],
    timeout: 300,
    inactivity_timeout: 60,
    url: 'file:///nonexistent/image',
    transfer_id: 'transfer',
    sparse: true,
    dirty: false,
    ...fields,
  }
}

/** A control service with mutual TLS: who has no certificate of the authority gets no answer. */
async function startTls(t: Test, { controlSocket }: Daemon, pki: Pki): Promise<number> {
  const options = {
    ...{ cert: readFileSync(pki.certFile), key: readFileSync(pki.keyFile), ca: pki.ca },
    ...{ requestCert: true, rejectUnauthorized: true },
  }
  const server = createTlsServer(options, (incoming, outgoing) => {
    const { method, url: path, headers } = incoming
    const request = { socketPath: controlSocket, method, path, headers, agent: false } as const
    const relayed = httpRequest(request, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(outgoing)
    })
    relayed.on('error', () => outgoing.destroy())
    // At once: the daemon answers and closes when it has all, and a write that comes later fails.
    buffer(incoming).then(
      (body) => relayed.end(body),
      () => relayed.destroy(),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

async function wholeLife(t: Test, control: TicketControl): Promise<void> {
  const wanted = ticket()
  const { uuid } = wanted
  t.equal(await control.isReachable(), true)
  t.equal(await control.state(uuid), undefined, 'none yet')
  t.equal(await control.extend(uuid, 300), false, 'none to extend')
  await control.install(wanted)
  const state = await control.state(uuid)
  t.same(state, UNTOUCHED)
  t.equal(await control.extend(uuid, 300), true)
  await control.install(wanted)
  await control.remove(uuid)
  await control.remove(uuid)
  t.equal(await control.state(uuid), undefined)
}

t.test('the life of a ticket, over the socket of a daemon', async (t) => {
  const daemon = await startDaemon(t)
  const address = { socketPath: daemon.controlSocket }
  await wholeLife(t, new TicketControl({ address, ...LIMITS }))
})

t.test('the life of a ticket, over TLS with certificates on both sides', async (t) => {
  const daemon = await startDaemon(t)
  const pki = testPki()
  const port = await startTls(t, daemon, pki)
  const tls = {
    ca: Buffer.from(pki.ca),
    cert: readFileSync(pki.certFile),
    key: readFileSync(pki.keyFile),
  }
  const address = { host: '127.0.0.1', port, tls }
  await wholeLife(t, new TicketControl({ address, ...LIMITS }))

  const stranger = testPki('stranger')
  const wrongServer = { ...address, tls: { ...tls, ca: Buffer.from(stranger.ca) } }
  const wrongClient = {
    ...address,
    tls: { ...tls, cert: readFileSync(stranger.certFile), key: readFileSync(stranger.keyFile) },
  }
  setEnvironment(t, 'NODE_TLS_REJECT_UNAUTHORIZED', '0')
  for (const wrong of [wrongServer, wrongClient]) {
    const control = new TicketControl({ address: wrong, ...LIMITS })
    await t.rejects(control.install(ticket()), { code: 'ERR_HOST_UNREACHABLE' })
    t.equal(await control.isReachable(), false)
  }
})

t.test('removal ends the requests of a ticket, and waits for that', async (t) => {
  const daemon = await startDaemon(t)
  const address = { socketPath: daemon.controlSocket }
  const control = new TicketControl({ address, ...LIMITS })
  const image = await daemon.addImage(randomBytes(8192), { ops: ['write'] })
  const wire = await Wire.open(daemon.remote)
  await wire.send(`PUT ${image.url} HTTP/1.1\r\nHost: a\r\nContent-Length: 8192\r\n\r\nhalf`)
  await until('it is active', async () => (await control.state(image.id))?.isActive)
  await control.remove(image.id)
  t.equal(await control.state(image.id), undefined, 'requests that wait for data are ended')
  wire.destroy()
})

t.test('what a host says decides what its error is', async (t) => {
  let status = 500
  const server = createHttpServer((_, response) => {
    response.writeHead(status).end(status === 200 ? 'no JSON' : 'because')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const control = new TicketControl({ address: { host: '127.0.0.1', port }, ...LIMITS })
  await t.rejects(control.remove('a'), { code: 'ERR_HOST_REFUSED', message: /500 because/ })
  status = 409
  await t.rejects(control.remove('a'), { code: 'ERR_HOST_BUSY' })
  status = 200
  await t.rejects(control.state('a'), { code: 'ERR_HOST_REFUSED' })
  status = 404
  t.equal(await control.state('a'), undefined)
  t.equal(await control.isReachable(), true, 'also one without a list of tickets is up')
})

t.test('a host that does not answer is out of reach after the timeout', async (t) => {
  const server = createHttpServer(() => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const address = { host: '127.0.0.1', port }
  const control = new TicketControl({ address, timeoutMs: 50, removeTimeoutMs: 50 })
  await t.rejects(control.install(ticket()), { code: 'ERR_HOST_UNREACHABLE' })
  await t.rejects(control.remove('a'), { code: 'ERR_HOST_UNREACHABLE' })
  t.equal(await control.isReachable(), false)
})
