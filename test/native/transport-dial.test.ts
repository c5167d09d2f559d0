/** Dialing: whom the front believes to be the server, and what is told when there is no connection. */
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import t from 'tap'
import { CIPHERS } from '../../core/http/tls.js'
import { Transport, type DialError } from '../../native/transport.js'
import { testPki } from '../support/pki.js'
import { until } from '../support/wait.js'
import { dialing } from './dialing.js'

t.test('who is not the server that was asked for gets nothing', async (t) => {
  const { dial, events } = await dialing(t)
  const untrusted = { code: 'CERT_UNTRUSTED' }
  await t.rejects(dial({ host: 'other.example' }), untrusted)
  await t.rejects(dial({ host: '127.0.0.2' }), untrusted)
  await t.rejects(dial({ authorities: testPki('proxy').ca }), untrusted)
  await t.rejects(dial({ authorities: '' }), untrusted)
  await until('all are closed', () => events.length === 4)
  const client = await dial({ host: '127.0.0.1' })
  t.ok(client.socket)
})

t.test('a server that wants a certificate is told by its alert', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const server = { requestCert: true, rejectUnauthorized: true, maxVersion }
    const { dial, events } = await dialing(t, { server })
    const failed = await dial().then(
      () => undefined,
      (error: unknown) => (error as DialError).code,
    )
    const code =
      failed ?? (await until('the alert', () => events.find((event) => /ALERT/.test(event))))
    t.match(code, maxVersion === 'TLSv1.3' ? /CERTIFICATE_REQUIRED/ : /ALERT|RESET/)
    await until('closed', () => events.includes('closed'))
  }
})

t.test('no connection is an error with its reason', async (t) => {
  const { dial, server, next, transport, ids } = await dialing(t, { isTls: false })
  const client = await dial({ addresses: ['127.0.0.2', '127.0.0.1'] })
  t.equal(client.addresses[1], '127.0.0.1', 'the next address')
  await next()
  t.throws(() => transport.dial({ addresses: ['localhost'], port: 1 }, {} as never), TypeError)
  t.throws(() => transport.dial({ path: 'x'.repeat(200) }, {} as never), { code: 'ENAMETOOLONG' })
  server.close()
  await t.rejects(dial(), { code: 'ECONNREFUSED' })
  // TEST-NET-1: nobody answers, or there is no route.
  const never = dial({ addresses: ['192.0.2.1'] })
  transport.cut(ids.at(-1) ?? 0)
  await t.rejects(never)
})

t.test('who speaks no TLS is no server', async (t) => {
  const plain = net.createServer((socket) => socket.end('HTTP/1.1 400 Bad\r\n\r\n'))
  plain.listen(0, '127.0.0.1')
  await once(plain, 'listening')
  t.teardown(() => plain.close())
  const transport = new Transport(1)
  t.teardown(() => transport.close())
  const trust = transport.trust({ authorities: '', key: '', cert: '', ciphers: CIPHERS })
  const { port } = plain.address() as AddressInfo
  const to = { addresses: ['127.0.0.1'], port, tls: { trust, host: 'h', serverName: 'h' } }
  const never = (): void => void t.fail('it is not open')
  const error = await new Promise<DialError>((failed) =>
    transport.dial(to, { failed, opened: never, reset: never, closed: () => undefined }),
  )
  t.match(error.code, /ERR_SSL/)
})

t.test('what cannot be trusted is refused at once', (t) => {
  const transport = new Transport(1)
  t.teardown(() => transport.close())
  const settings = { authorities: '', key: 'no key', cert: 'no cert', ciphers: CIPHERS }
  t.throws(() => transport.trust(settings), /ERR_SSL/)
  t.end()
})
