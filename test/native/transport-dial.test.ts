import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net, { type AddressInfo, type Socket } from 'node:net'
import tls from 'node:tls'
import t, { type Test } from 'tap'
import { CIPHERS } from '../../core/http/tls.js'
import { Transport, type DialError } from '../../native/transport.js'
import { testPki } from '../support/pki.js'
import { until, within } from '../support/wait.js'

const KIB = 1024
const BODY = 300 * KIB

interface Dialed {
  readonly id: number
  /** The HTTP client's end. */
  readonly socket: Socket
  readonly addresses: readonly (string | undefined)[]
  /** What the client has got. */
  readonly text: () => string
}

interface Options {
  readonly isTls?: boolean
  readonly server?: tls.TlsOptions
  readonly host?: string
  readonly addresses?: readonly string[]
  readonly authorities?: string
}

interface Fixture {
  readonly transport: Transport
  readonly server: net.Server
  /** Resolves when it is open, rejects when it will not be. */
  readonly dial: (options?: Options) => Promise<Dialed>
  /** The server's socket of the next connection. */
  readonly next: () => Promise<Socket>
  readonly events: string[]
  readonly ids: number[]
}

/** A front that dials a server, which does what the test says. */
async function dialing(t: Test, fixed: Options = {}): Promise<Fixture> {
  const { isTls = true } = fixed
  const { keyFile, certFile, ca } = testPki()
  const key = readFileSync(keyFile)
  const cert = readFileSync(certFile)
  const sockets: Socket[] = []
  const onSocket = (socket: Socket): void => {
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
    sockets.push(socket)
  }
  const server = isTls
    ? tls.createServer({ key, cert, ...fixed.server }, onSocket)
    : net.createServer({ allowHalfOpen: true }, onSocket)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const transport = new Transport(3)
  t.teardown(() => transport.close())
  const events: string[] = []
  const ids: number[] = []
  const dial = ({ host = 'localhost', addresses, authorities }: Options = {}): Promise<Dialed> =>
    new Promise((resolve, reject) => {
      const trust = transport.trust({
        authorities: authorities ?? ca,
        key: '',
        cert: '',
        ciphers: CIPHERS,
      })
      const to = {
        addresses: addresses ?? fixed.addresses ?? ['127.0.0.1'],
        port,
        ...(isTls ? { tls: { trust, host, serverName: net.isIP(host) === 0 ? host : '' } } : {}),
      }
      let socket: Socket | undefined
      const id = transport.dial(to, {
        opened: (fd, ...ends) => {
          const chunks: Buffer[] = []
          socket = new net.Socket({ fd, allowHalfOpen: true })
          socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined)
          socket.on('end', () => events.push('end'))
          t.teardown(() => socket?.destroy())
          const text = (): string => Buffer.concat(chunks).toString('latin1')
          resolve({ id, socket, addresses: ends, text })
        },
        failed: reject,
        reset: (reason) => {
          events.push(reason)
          socket?.destroy()
        },
        closed: () => {
          events.push('closed')
          reject(new Error('closed'))
        },
      })
      ids.push(id)
    })
  let taken = 0
  const next = (): Promise<Socket> => {
    const index = taken++
    return until('the server has its socket', () => sockets[index])
  }
  return { transport, server, dial, next, events, ids }
}

const REQUEST = 'GET /images/a HTTP/1.1\r\nHost: h\r\n\r\n'
const response = (size: number, more = ''): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\nETag: "1"\r\n${more}\r\n`

/** Asks for something whose body is to be withheld, and has the server answer. */
async function ask(
  { transport }: Fixture,
  client: Dialed,
  server: Socket,
  answer: string | Buffer,
): Promise<void> {
  const asked = once(server, 'data')
  transport.withholdNext(client.id, client.socket.bytesRead)
  client.socket.write(REQUEST)
  await within('the request', 5000, asked)
  server.write(answer)
}

/** The number of the response whose body was withheld, of the first one or of another. */
async function withheld(
  { transport }: Fixture,
  { text }: Dialed,
  size: number,
  index = 0,
): Promise<number> {
  const field = new RegExp(`x-imageio-withheld: ${transport.token}\\.(\\d+) ${size}\\r\\n`, 'g')
  const found = await until('the head', () => [...text().matchAll(field)][index])
  return Number(found[1])
}

for (const isTls of [false, true]) {
  t.test(isTls ? 'with TLS' : 'without TLS', async (t) => {
    t.test('bytes go both ways as they come, and so does the end', async (t) => {
      const { dial, next, events } = await dialing(t, { isTls })
      const client = await dial()
      const server = await next()
      t.strictSame(client.addresses, ['127.0.0.1', '127.0.0.1'])
      const got: Buffer[] = []
      server.on('data', (chunk: Buffer) => got.push(chunk))
      const sent = 'x'.repeat(200_000)
      client.socket.write(sent)
      await until('all is there', () => Buffer.concat(got).length === sent.length)
      t.equal(Buffer.concat(got).toString(), sent)
      const answer = response(BODY) + 'y'.repeat(BODY)
      server.end(answer)
      await until('the end', () => events.includes('end'))
      t.equal(client.text(), answer, 'nobody asked for a body to be withheld')
      client.socket.destroy()
      await until('closed', () => events.includes('closed'))
    })

    t.test('the body of a response that was asked for fills the buffers', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      const body = Buffer.alloc(BODY, 'abc')
      for (const round of [1, 2]) {
        await ask(fixture, client, server, response(BODY))
        const number = await withheld(fixture, client, BODY, round - 1)
        t.equal(number, round)
        server.write(body)
        server.write(response(3) + 'end')
        const target = Buffer.alloc(BODY)
        const first = transport.read(client.id, number, target.subarray(0, 1000))
        const rest = transport.read(client.id, number, target.subarray(1000))
        t.strictSame(await Promise.all([first, rest]), [1000, BODY - 1000])
        t.ok(target.equals(body))
        await until('what is behind it', () => client.text().split('3\r\n').length === round + 1)
        await until('its body', () => client.text().endsWith('end'))
        await t.rejects(transport.read(client.id, number, target), { code: 'ECANCELED' })
      }
      const [head] = client.text().split('\r\n\r\n')
      t.match(
        head,
        /^HTTP\/1.1 200 OK\r\nContent-Length: 0\r\nx-imageio-withheld: .*\r\nETag: "1"$/,
      )
    })

    t.test('what is not large and plain passes as it came', async (t) => {
      const answers = {
        small: response(3) + 'abc',
        chunked: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
        'with two lengths': response(BODY, `Content-Length: ${BODY}\r\n`),
        'another status': `HTTP/1.1 403 No\r\nContent-Length: ${BODY}\r\n\r\n` + 'x'.repeat(BODY),
        'of HTTP/1.0': `HTTP/1.0 200 OK\r\nContent-Length: ${BODY}\r\n\r\n`,
        'with a field of ours': response(BODY, 'X-Imageio-Withheld: 0.1 70000\r\n'),
        'without a length': 'HTTP/1.1 200 OK\r\n\r\nabc',
        'no HTTP': '\r\n\0nonsense',
      }
      for (const [name, answer] of Object.entries(answers)) {
        const fixture = await dialing(t, { isTls })
        const client = await fixture.dial()
        await ask(fixture, client, await fixture.next(), answer)
        await until(name, () => client.text().length >= answer.length)
        t.equal(client.text(), answer, name)
      }
    })

    t.test('interim answers pass, and the final one is what is withheld', async (t) => {
      const fixture = await dialing(t, { isTls })
      const client = await fixture.dial()
      const server = await fixture.next()
      const interim = 'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n'
      await ask(fixture, client, server, interim + response(BODY) + 'z'.repeat(BODY))
      const number = await withheld(fixture, client, BODY)
      t.ok(client.text().startsWith(interim))
      const target = Buffer.alloc(BODY)
      t.equal(await fixture.transport.read(client.id, number, target), BODY)
      t.equal(target.toString(), 'z'.repeat(BODY))
    })

    t.test('bytes that nobody had asked for are never taken for the answer', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      server.write(response(200))
      await until('they are there', () => client.text().length > 0)
      // As if the client had not read them yet.
      transport.withholdNext(client.id, 0)
      client.socket.write(REQUEST)
      await once(server, 'data')
      const answer = response(BODY) + 'x'.repeat(BODY)
      server.write(answer)
      await until('all of it', () => client.text().length === response(200).length + answer.length)
      t.ok(client.text().endsWith(answer))
    })

    t.test('a body that is cut short is told by what came of it', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      await ask(fixture, client, server, response(BODY) + 'x'.repeat(100_000))
      const number = await withheld(fixture, client, BODY)
      server.end()
      t.equal(await transport.read(client.id, number, Buffer.alloc(BODY)), 100_000)
      const again = transport.read(client.id, number, Buffer.alloc(10))
      t.equal(await again.catch(() => 0), 0)
      await until('it is known', () => transport.hasEnded(client.id))
    })

    t.test('a read that lingers is answered with little', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      await ask(fixture, client, server, response(BODY))
      const number = await withheld(fixture, client, BODY)
      const target = Buffer.alloc(BODY)
      const reading = transport.read(client.id, number, target, true)
      server.write('abc')
      const size = await within('the read', 5000, reading)
      t.equal(target.subarray(0, size).toString(), 'abc')
      server.write('d'.repeat(BODY - size))
      let done = size
      while (done < BODY) {
        done += await transport.read(client.id, number, target.subarray(done), true)
      }
      t.equal(target.toString(), `abc${'d'.repeat(BODY - 3)}`)
    })

    t.test('a chunk is sent behind what the client has written', async (t) => {
      const { transport, dial, next } = await dialing(t, { isTls })
      const client = await dial()
      const server = await next()
      const got: Buffer[] = []
      server.on('data', (chunk: Buffer) => got.push(chunk))
      client.socket.write('head ')
      const chunk = Buffer.alloc(BODY, 'z')
      await transport.write(client.id, client.socket.bytesWritten, chunk)
      client.socket.write('tail')
      await until('all is there', () => Buffer.concat(got).length === BODY + 9)
      t.equal(Buffer.concat(got).toString(), `head ${chunk.toString()}tail`)
    })

    t.test('what the server said before it went is there, also when writing fails', async (t) => {
      const { transport, dial, next, events } = await dialing(t, { isTls })
      const client = await dial()
      const server = await next()
      const refusal = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'
      // Nobody reads what is sent: destroying it resets the connection.
      server.pause()
      const writing = transport.write(client.id, 0, Buffer.alloc(32 * KIB * KIB))
      writing.catch(() => undefined)
      await until('bytes', () => (transport.sent(client.id) ?? 0) > BODY)
      server.write(refusal, () => server.destroy())
      client.socket.pause()
      await t.rejects(within('the write', 5000, writing))
      await until('it is known', () => transport.hasEnded(client.id))
      // Written to nobody, and no error that would keep the client from reading.
      const late = Promise.withResolvers<unknown>()
      client.socket.write('more', late.resolve)
      t.notOk(await within('the late write', 5000, late.promise))
      client.socket.resume()
      await until('the end', () => events.includes('end'))
      t.equal(client.text(), refusal)
      client.socket.destroy()
      await until('closed', () => events.includes('closed'))
    })

    t.test('orders end when it is cut', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next, events } = fixture
      const client = await dial()
      const server = await next()
      await ask(fixture, client, server, response(BODY))
      const number = await withheld(fixture, client, BODY)
      server.pause()
      const reading = transport.read(client.id, number, Buffer.alloc(10))
      const after = client.socket.bytesWritten
      const writing = transport.write(client.id, after, Buffer.alloc(64 * KIB * KIB))
      transport.cut(client.id)
      await t.rejects(within('the read', 5000, reading), { code: 'ECONNRESET' })
      await t.rejects(within('the write', 5000, writing), { code: 'ECONNRESET' })
      await until('closed', () => events.includes('closed'))
      t.ok(transport.hasEnded(client.id))
    })

    t.test('many connections, whose bodies go on through others', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next, events } = fixture
      const body = Buffer.alloc(BODY, '0123456789')
      const one = async (from: Dialed, server: Socket, to: Dialed): Promise<void> => {
        for (let round = 1; round <= 3; round++) {
          await ask(fixture, from, server, Buffer.concat([Buffer.from(response(BODY)), body]))
          await until('the head', () => from.text().split('x-imageio-').length === round + 1)
          const target = Buffer.alloc(BODY)
          if ((await transport.read(from.id, round, target)) !== BODY) throw new Error('short')
          if (!target.equals(body)) throw new Error('other bytes')
          await transport.write(to.id, to.socket.bytesWritten, target)
        }
      }
      const pairs: { client: Dialed; server: Socket }[] = []
      for (let index = 0; index < 16; index++) {
        const client = await dial()
        pairs.push({ client, server: await next() })
      }
      const relays = pairs.slice(0, 8).map(async ({ client, server }, index) => {
        const to = pairs[8 + index]
        if (to === undefined) throw new Error('no pair')
        let got = 0
        to.server.on('data', ({ length }: Buffer) => (got += length))
        if (index % 4 === 3) transport.cut(to.client.id)
        const done = await one(client, server, to.client).then(
          () => true,
          () => false,
        )
        if (done) await until('all of it', () => got === 3 * BODY)
        return done
      })
      t.equal((await Promise.all(relays)).filter(Boolean).length, 6)
      for (const { client } of pairs) client.socket.destroy()
      await until('the end', () => events.filter((event) => event === 'closed').length === 16)
    })
  })
}

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
