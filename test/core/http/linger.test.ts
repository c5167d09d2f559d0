import net from 'node:net'
import t, { type Test } from 'tap'
import type { Connection } from '../../../core/http/connection.js'
import { linger } from '../../../core/http/linger.js'
import { sleep, until, within } from '../../support/wait.js'
import { IS_FRONTED, serve, tlsMaterial } from './serving.js'

const MIB = 1024 * 1024

/** Both ends of a TCP connection. */
async function pair(t: Test): Promise<{ server: net.Socket; client: net.Socket }> {
  const listener = net.createServer({ allowHalfOpen: true })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<net.Socket>((resolve) => listener.once('connection', resolve))
  const { port } = listener.address() as net.AddressInfo
  const client = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  client.on('error', () => undefined)
  const server = await accepted
  server.on('error', () => undefined)
  t.teardown(() => {
    client.destroy()
    server.destroy()
    listener.close()
  })
  return { server, client }
}

const closed = (socket: net.Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()))

t.test('a client that still sends reads the answer', async (t) => {
  const { server, client } = await pair(t)
  linger(server, () => true)
  server.once('data', () => {
    server.write('answer')
    server.destroySoon()
  })
  client.write(Buffer.alloc(64 * 1024))
  await sleep(20)
  client.write(Buffer.alloc(64 * 1024)) // would provoke a reset
  await sleep(20)
  const received: string[] = []
  client.setEncoding('utf8').on('data', (text: string) => received.push(text))
  await until('the end of the answer', () => client.readableEnded)
  t.equal(received.join(''), 'answer')
  t.equal(server.destroyed, false)
  client.end()
  await within('closing', 1000, closed(server))
})

t.test('no more than a megabyte is thrown away, and the answer is there', async (t) => {
  const { server, client } = await pair(t)
  linger(server, () => true)
  server.write('answer')
  server.destroySoon()
  // All that goes, as somebody does who looks at answers only when nothing goes.
  while (client.write(Buffer.alloc(MIB))) continue
  await until('nothing goes any more', async () => {
    const before = client.writableLength
    await sleep(50)
    return client.writableLength === before
  })
  for (let count = 0; count < 64; count++) client.write(Buffer.alloc(MIB))
  const received: string[] = []
  client.setEncoding('utf8').on('data', (text: string) => received.push(text))
  await until('the end of the answer', () => client.readableEnded)
  t.equal(received.join(''), 'answer')
  t.ok(server.bytesRead >= MIB)
  t.ok(server.bytesRead <= 2 * MIB, `${server.bytesRead} bytes`)
  await within('closing', 3500, closed(server))
})

for (const { isTls, isFronted } of [
  { isTls: false, isFronted: IS_FRONTED },
  { isTls: true, isFronted: IS_FRONTED },
  { isTls: true, isFronted: false },
]) {
  t.test(`nor of a body that was refused, TLS: ${isTls}, front: ${isFronted}`, async (t) => {
    const connections: Connection[] = []
    const { open } = await serve(
      t,
      [
        {
          path: '/images/:id',
          methods: {
            PUT: (exchange) => {
              connections.push(exchange.connection)
              exchange.send(403, 'no\n')
            },
          },
        },
      ],
      { isFronted, ...(isTls ? { tls: tlsMaterial() } : {}) },
    )
    const wire = await open({ isReading: false })
    void wire.send('PUT /images/x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n')
    const piece = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(MIB), Buffer.from('\r\n')])
    for (let count = 0; count < 64; count++) void wire.send(piece)
    const { socket, front } = await until('it is refused', () => connections[0])
    const taken = (): number => front?.received() ?? socket.bytesRead
    const isClosed = closed(socket)
    await until('a megabyte is taken', () => taken() >= MIB)
    await until('no more is taken', async () => {
      const before = taken()
      await sleep(50)
      return taken() === before
    })
    wire.read()
    t.equal((await wire.response()).status, 403)
    await within('closing', 3500, isClosed)
    // Thrown away by the front, and by the server before that; the rest waits in buffers.
    t.ok(taken() <= 3 * MIB, `${taken()} bytes`)
  })
}

t.test('nobody is waited for longer than two seconds', async (t) => {
  const { server, client } = await pair(t)
  linger(server, () => true)
  const start = performance.now()
  server.destroySoon()
  client.resume()
  await within('closing', 3500, closed(server))
  const ms = performance.now() - start
  t.ok(ms >= 1900, `${ms} ms`)
})

t.test('without a wish the socket closes as ever', async (t) => {
  const { server } = await pair(t)
  linger(server, () => false)
  server.destroySoon()
  await within('closing', 1000, closed(server))
})

t.test('a client that has ended is not waited for', async (t) => {
  const { server, client } = await pair(t)
  linger(server, () => true)
  client.end()
  server.resume()
  await until('its end', () => server.readableEnded)
  server.destroySoon()
  await within('closing', 1000, closed(server))
})
