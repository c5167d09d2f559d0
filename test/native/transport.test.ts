import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net, { type Socket } from 'node:net'
import tls from 'node:tls'
import t, { type Test } from 'tap'
import { CIPHERS } from '../../core/http/tls.js'
import { Transport, type TransportListener } from '../../native/transport.js'
import { testPki } from '../support/pki.js'
import { until, within } from '../support/wait.js'

const KIB = 1024
const BODY = 300 * KIB

interface Opened {
  readonly id: number
  /** The server's end. */
  readonly socket: Socket
  /** What the server has got. */
  readonly text: () => string
}

interface Fixture {
  readonly transport: Transport
  readonly listener: TransportListener
  readonly opened: Opened[]
  readonly foreign: Socket[]
  /** What happened, by name. */
  readonly events: string[]
  readonly connect: (alpn?: string) => Promise<Socket>
  readonly next: () => Promise<Opened>
}

/** A front whose server does what the test says. */
function front(
  t: Test,
  { isTls = true, admits = true, handshakeTimeoutMs = 10_000 } = {},
): Fixture {
  const transport = new Transport(3)
  t.teardown(() => transport.close())
  const opened: Opened[] = []
  const foreign: Socket[] = []
  const events: string[] = []
  const { keyFile, certFile, ca } = testPki()
  const read = (file: string): string => readFileSync(file, 'latin1')
  const listener = transport.listen(
    { address: '127.0.0.1', port: 0 },
    {
      handshakeTimeoutMs,
      ...(isTls ? { tls: { key: read(keyFile), cert: read(certFile), ciphers: CIPHERS } } : {}),
      handlers: {
        accepted: (id, address) => {
          events.push(`accepted ${address}`)
          if (admits) transport.admit(id)
          else transport.cut(id)
        },
        opened: (id, fd) => {
          const socket = new net.Socket({ fd, allowHalfOpen: true })
          const chunks: Buffer[] = []
          socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined)
          socket.on('end', () => events.push('end'))
          t.teardown(() => socket.destroy())
          opened.push({ id, socket, text: () => Buffer.concat(chunks).toString('latin1') })
        },
        foreign: (_id, fd) => {
          const socket = new net.Socket({ fd })
          t.teardown(() => socket.destroy())
          foreign.push(socket)
        },
        reset: () => events.push('reset'),
        handshakeFailed: (_id, reason) => events.push(reason),
        closed: () => events.push('closed'),
      },
    },
  )
  const connect = async (alpn = 'http/1.1'): Promise<Socket> => {
    const at = { host: '127.0.0.1', port: listener.port }
    const socket = isTls ? tls.connect({ ...at, ca, ALPNProtocols: [alpn] }) : net.connect(at)
    t.teardown(() => socket.destroy())
    socket.on('error', () => undefined)
    await within('connection', 5000, once(socket, isTls ? 'secureConnect' : 'connect'))
    return socket
  }
  let taken = 0
  const next = (): Promise<Opened> => {
    const index = taken++
    return until('the server has its socket', () => opened[index])
  }
  return { transport, listener, opened, foreign, events, connect, next }
}

const upload = (size: number): string =>
  `PUT /images/a HTTP/1.1\r\nHost: h\r\nContent-Length: ${size}\r\n\r\n`

/** The head as the server gets it, and the number of the request. */
async function withheld({ text }: Opened, size: number): Promise<number> {
  const pattern = new RegExp(`x-imageio-withheld: [\\da-f]{32}\\.(\\d+) ${size}\\r\\n`, 'g')
  const found = await until('the head', () => [...text().matchAll(pattern)].at(-1))
  return Number(found[1])
}

function closed(socket: Socket): Promise<void> {
  return within('the end', 5000, new Promise((resolve) => socket.once('close', () => resolve())))
}

/** All that comes, up to a size. */
async function receive(socket: Socket, size: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let got = 0
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    got += chunk.length
    if (got >= size) break
  }
  return Buffer.concat(chunks)
}

for (const isTls of [false, true]) {
  t.test(isTls ? 'with TLS' : 'without TLS', async (t) => {
    t.test('what is no large upload is relayed as it came, both ways', async (t) => {
      const { connect, next, events } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      const sent = `GET / HTTP/1.1\r\nHost: h\r\n\r\n${upload(3)}abcnonsense ${'x'.repeat(100_000)}`
      client.write(sent)
      await until('all is there', () => server.text().length === sent.length)
      t.equal(server.text(), sent)
      server.socket.end('answer')
      t.equal((await receive(client, 6)).toString(), 'answer')
      await until('the end', () => events.includes('closed'))
      t.match(events, ['accepted 127.0.0.1'])
    })

    t.test('the body of a large upload fills the buffers that ask for it', async (t) => {
      const { transport, connect, next } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      const body = Buffer.alloc(BODY, 'abc')
      client.write(upload(BODY))
      client.write(body)
      client.write('GET /next HTTP/1.1\r\nHost: h\r\n\r\n')
      const request = await withheld(server, BODY)
      t.notOk(server.text().includes('Content-Length'))
      const target = Buffer.alloc(BODY)
      const first = target.subarray(0, 100 * KIB)
      t.equal(await transport.read(server.id, request, first), first.length)
      t.notOk(server.text().includes('/next'), 'nothing behind the body is a request yet')
      const rest = Buffer.alloc(BODY)
      t.equal(
        await transport.read(server.id, request, rest),
        BODY - first.length,
        'no more than it',
      )
      rest.copy(target, first.length)
      t.ok(target.equals(body))
      await until('the next request', () => server.text().includes('GET /next'))
      await t.rejects(transport.read(server.id, request, rest), { code: 'ECANCELED' })
      t.ok((transport.received(server.id) ?? 0) >= BODY)
    })

    t.test('two reads may be open, and are answered in order', async (t) => {
      const { transport, connect, next } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      const body = Buffer.alloc(BODY, '0123456789')
      client.write(upload(BODY))
      const request = await withheld(server, BODY)
      const target = Buffer.alloc(BODY)
      const read = (from: number, to: number): Promise<number> =>
        transport.read(server.id, request, target.subarray(from, to))
      const first = read(0, 1000)
      const second = read(1000, 150_000)
      t.throws(() => void read(150_000, BODY), /too many/)
      client.write(body)
      t.strictSame(await Promise.all([first, second]), [1000, 149_000])
      t.equal(await read(150_000, BODY), BODY - 150_000)
      t.ok(target.equals(body))
      client.write(upload(BODY) + 'x'.repeat(10))
      await until('the second', () => server.text().split('x-imageio-withheld').length === 3)
      const short = transport.read(server.id, request + 1, target)
      const none = transport.read(server.id, request + 1, Buffer.alloc(10))
      await until('bytes', () => (transport.received(server.id) ?? 0) > BODY)
      transport.cancelRead(server.id)
      t.ok((await short.catch(() => 0)) <= 10)
      await t.rejects(none, { code: 'ECANCELED' })
    })

    t.test('a body that ends early is told by what came of it', async (t) => {
      const { transport, connect, next } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      client.end(upload(BODY) + 'x'.repeat(100_000))
      const request = await withheld(server, BODY)
      t.equal(await transport.read(server.id, request, Buffer.alloc(BODY)), 100_000)
      const again = transport.read(server.id, request, Buffer.alloc(10))
      t.equal(await again.catch(() => 0), 0)
    })

    t.test('a read that is canceled settles with what has come', async (t) => {
      const { transport, connect, next } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      client.write(upload(BODY) + 'x'.repeat(1000))
      const request = await withheld(server, BODY)
      const reading = transport.read(server.id, request, Buffer.alloc(BODY))
      await until('bytes', () => (transport.received(server.id) ?? 0) > 1000)
      transport.cancelRead(server.id)
      t.equal(await within('the read', 5000, reading), 1000)
      const empty = transport.read(server.id, request, Buffer.alloc(10))
      transport.cancelRead(server.id)
      await t.rejects(within('the read', 5000, empty), { code: 'ECANCELED' })
      client.write('y')
      const target = Buffer.alloc(1)
      t.equal(await transport.read(server.id, request, target), 1)
      t.equal(target.toString(), 'y')
    })

    t.test('a chunk is sent behind what the server has written', async (t) => {
      const { transport, connect, next } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      const received = receive(client, BODY + 9)
      server.socket.write('head ')
      const chunk = Buffer.alloc(BODY, 'z')
      await transport.write(server.id, server.socket.bytesWritten, chunk)
      server.socket.write('tail')
      t.equal((await received).toString(), `head ${chunk.toString()}tail`)
      await t.rejects(transport.write(server.id, 3, chunk), { code: 'EINVAL' })
    })

    t.test('orders end when the client resets its connection, and when it is cut', async (t) => {
      const { transport, connect, next, events } = front(t, { isTls })
      const client = await connect()
      const server = await next()
      client.write(upload(BODY))
      const request = await withheld(server, BODY)
      const reading = transport.read(server.id, request, Buffer.alloc(10))
      const writing = transport.write(server.id, 0, Buffer.alloc(64 * KIB * KIB))
      transport.cut(server.id)
      await t.rejects(within('the read', 5000, reading), { code: 'ECONNRESET' })
      await t.rejects(within('the write', 5000, writing), { code: 'ECONNRESET' })
      await until('the end', () => events.includes('closed'))
      await t.rejects(transport.read(server.id, request, Buffer.alloc(10)), { code: 'ECONNRESET' })
      const other = await connect()
      await next()
      if (!(other instanceof tls.TLSSocket)) other.resetAndDestroy()
      else other.destroy()
      await until(
        'the end',
        () => events.filter((event) => event === 'closed').length === 2 || events.includes('end'),
      )
    })

    t.test('many connections at once, some of which end in the middle', async (t) => {
      const { transport, connect, next, events } = front(t, { isTls })
      const body = Buffer.alloc(BODY, '0123456789')
      const one = async (index: number): Promise<void> => {
        const client = await connect()
        const server = await next()
        for (let round = 0; round < 3; round++) {
          client.write(upload(BODY))
          client.write(body)
        }
        client.resume()
        for (let round = 1; round <= 3; round++) {
          await until(
            'the head',
            () => server.text().split('x-imageio-withheld').length === round + 1,
          )
          const target = Buffer.alloc(BODY)
          if (index % 4 === 3 && round === 2) {
            const reading = transport.read(server.id, round, target).catch(() => 0)
            if (index % 8 === 3) transport.cut(server.id)
            else client.destroy()
            await within('the read', 5000, reading)
            server.socket.destroy()
            return
          }
          if ((await transport.read(server.id, round, target)) !== BODY) throw new Error('short')
          if (!target.equals(body)) throw new Error('other bytes')
          await transport.write(server.id, server.socket.bytesWritten, target)
        }
        server.socket.end()
        client.end()
      }
      // Whose server's socket is whose client's is not known, so one after the other connects.
      for (let index = 0; index < 16; index++) await one(index)
      const pairs = await Promise.all(
        Array.from({ length: 16 }, async () => {
          const client = await connect()
          client.resume()
          client.write(upload(BODY))
          client.write(body)
          return client
        }),
      )
      const servers = await Promise.all(pairs.map(() => next()))
      const sizes = servers.map(async (server, index) => {
        const request = await withheld(server, BODY)
        if (index % 5 === 4) transport.cut(server.id)
        const target = Buffer.alloc(BODY)
        const size = await transport.read(server.id, request, target).catch(() => 0)
        await transport.write(server.id, server.socket.bytesWritten, target).catch(() => undefined)
        return size
      })
      t.equal((await Promise.all(sizes)).filter((size) => size === BODY).length, 13)
      for (const client of pairs) client.destroy()
      for (const { socket } of servers) socket.destroy()
      await until(
        'the end of all',
        () => events.filter((event) => event === 'closed').length === 32,
      )
    })
  })
}

t.test('who offers only HTTP/2, or speaks no TLS, is handed over with nothing read', async (t) => {
  const { listener, foreign, events } = front(t)
  const at = { host: '127.0.0.1', port: listener.port }
  const h2 = tls.connect({ ...at, ALPNProtocols: ['h2'], rejectUnauthorized: false })
  h2.on('error', () => undefined)
  t.teardown(() => h2.destroy())
  const first = await until('the socket', () => foreign[0])
  const [hello] = (await once(first, 'data')) as [Buffer]
  t.equal(hello[0], 22, 'a handshake record')
  const plain = net.connect(at, () => plain.write('GET / HTTP/1.1\r\n\r\n'))
  t.teardown(() => plain.destroy())
  const second = await until('the socket', () => foreign[1])
  t.equal(String((await once(second, 'data'))[0]), 'GET / HTTP/1.1\r\n\r\n')
  t.notOk(events.includes('closed'), 'they are connections of the front no more')
})

t.test(
  'a ClientHello may come in pieces, and one that does not come ends with its time',
  async (t) => {
    const { listener, events, connect, next } = front(t, { handshakeTimeoutMs: 300 })
    const at = { host: '127.0.0.1', port: listener.port }
    const silent = net.connect(at)
    silent.on('error', () => undefined).resume()
    await closed(silent)
    const slow = net.connect(at, () => slow.write(Buffer.from([22, 3])))
    slow.on('error', () => undefined).resume()
    await closed(slow)
    await until('both are closed', () => events.filter((event) => event === 'closed').length === 2)
    const client = await connect()
    t.ok(await next())
    client.destroy()
  },
)

t.test('who is not admitted is closed', async (t) => {
  const { listener, events, opened } = front(t, { admits: false, isTls: false })
  const client = net.connect({ host: '127.0.0.1', port: listener.port })
  client.on('error', () => undefined).resume()
  await closed(client)
  await until('closed', () => events.includes('closed'))
  t.equal(opened.length, 0)
})

t.test('closing the front settles what is open', async (t) => {
  const { transport, connect, next } = front(t, { isTls: false })
  const client = await connect()
  const server = await next()
  client.write(upload(BODY))
  const request = await withheld(server, BODY)
  const reading = transport.read(server.id, request, Buffer.alloc(10))
  transport.close()
  await t.rejects(reading, { code: 'ECANCELED' })
  await t.rejects(transport.read(server.id, request, Buffer.alloc(10)), { code: 'ECONNRESET' })
  await closed(client.resume())
})

t.test('what cannot be is refused at once', async (t) => {
  const { transport } = front(t, { isTls: false })
  const handlers = {} as never
  const listen =
    (address: { address: string; port: number } | { path: string }, key?: string) => () =>
      transport.listen(address, {
        handlers,
        handshakeTimeoutMs: 1,
        ...(key === undefined ? {} : { tls: { key, cert: key, ciphers: CIPHERS } }),
      })
  t.throws(listen({ address: '192.0.2.1', port: 0 }), { code: 'EADDRNOTAVAIL', syscall: 'bind' })
  t.throws(listen({ address: 'not an address', port: 0 }), { code: 'EINVAL' })
  t.throws(listen({ path: 'x'.repeat(200) }), { code: 'ENAMETOOLONG' })
  t.throws(listen({ address: '127.0.0.1', port: 0 }, 'no key'), /ERR_SSL/)
  t.throws(() => new Transport(0), RangeError)
})
