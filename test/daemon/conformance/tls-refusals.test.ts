/** What a client is told whose TLS is refused, or goes wrong: the same alert with and without the front. */
import { once } from 'node:events'
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net'
import { connect, type ConnectionOptions } from 'node:tls'
import t from 'tap'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { until } from '../../support/wait.js'

/** What no server of ours agrees to. */
const HELLOS: readonly [string, ConnectionOptions, RegExp][] = [
  ['an old cipher', { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA256' }, /HANDSHAKE_FAILURE/],
  [
    'an old version',
    { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' },
    /PROTOCOL_VERSION/,
  ],
  ['an odd suite', { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_CCM_SHA256' }, /HANDSHAKE_FAIL/],
  [
    'a signature that the certificate has not',
    { minVersion: 'TLSv1.3', sigalgs: 'ed25519' },
    /HANDSHAKE_FAILURE/,
  ],
]

/** The code of the error that ends the connection. */
async function refusal(port: number, options: ConnectionOptions): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options })
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  socket.destroy()
  return String(error.code)
}

/** What follows a record that no key has sealed, in the middle of an upload and behind all that is read. */
async function brokenRecord(daemon: Daemon): Promise<string> {
  const { port, ca } = daemon
  const image = await daemon.addImage(1_048_576)
  let server: Socket | undefined
  const relay = createServer((client) => {
    server = connectTcp(port, '127.0.0.1')
    client.pipe(server).pipe(client)
    for (const socket of [client, server]) socket.on('error', () => client.destroy())
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  const relayed = (relay.address() as AddressInfo).port
  const socket = connect({ port: relayed, host: '127.0.0.1', ca, servername: 'localhost' })
  const failed = once(socket, 'error') as Promise<[NodeJS.ErrnoException]>
  socket.write(`PUT ${image.url} HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\nabc`)
  await until('the upload has begun', async () => (await daemon.ticket(image.id)).active)
  server!.write(Buffer.concat([Buffer.from([0x17, 3, 3, 0, 64]), Buffer.alloc(64, 0xaa)]))
  const [error] = await failed
  socket.destroy()
  relay.close()
  return String(error.code)
}

for (const native of ['on', 'off']) {
  t.test(`with [transport] native = ${native}`, async (t) => {
    const daemon = await startDaemon(t, { config: { transport: { native } } })
    for (const [name, options, alert] of HELLOS) {
      t.match(await refusal(daemon.port, options), alert, name)
    }
    t.match(await brokenRecord(daemon), /ALERT_BAD_RECORD_MAC/)
  })
}
