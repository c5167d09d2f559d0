import net from 'node:net'
import t, { type Test } from 'tap'
import { linger } from '../../../core/http/linger.js'
import { sleep, until, within } from '../../support/wait.js'

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

t.test('no more than a megabyte is thrown away', async (t) => {
  const { server, client } = await pair(t)
  linger(server, () => true)
  server.destroySoon()
  const isClosed = closed(server)
  const start = performance.now()
  const flood = setInterval(() => client.write(Buffer.alloc(MIB / 4)), 5)
  t.teardown(() => clearInterval(flood))
  await within('closing', 1500, isClosed)
  t.ok(performance.now() - start < 1500, 'not by time')
  t.ok(server.bytesRead >= MIB)
})

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
