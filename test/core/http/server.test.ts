import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import t, { type Test } from 'tap'
import { Admission } from '../../../core/http/admission.js'
import type { Handler, Route } from '../../../core/http/routes.js'
import type { TlsMaterial } from '../../../core/http/tls.js'
import { openH2, request, requestH2 } from '../../support/http.js'
import { sleep, until, within } from '../../support/wait.js'
import type { Target } from '../../support/wire.js'
import { ask, gate, hello, LIMITS, serve, tlsMaterial } from './serving.js'

const MIB = 1024 * 1024

/** Options of a TLS client that sends this ALPN list. */
async function handshake(t: Test, target: Target, protocols?: string[]): Promise<tls.TLSSocket> {
  if ('path' in target) throw new Error('TLS is on TCP')
  const { host, port, ca = '' } = target
  const alpn = protocols === undefined ? {} : { ALPNProtocols: protocols }
  const socket = tls.connect({ host, port, ca, ...alpn })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect', { signal: AbortSignal.timeout(5000) })
  socket.on('error', () => undefined)
  return socket
}

t.test('pipelined requests are answered in order', async (t) => {
  const { handler, open: openGate } = gate()
  const routes: Route[] = [
    { path: '/images/:id', methods: { GET: handler } },
    { path: '/tickets/:id', methods: { GET: hello } },
  ]
  const { open } = await serve(t, routes)
  const wire = await open()
  await wire.send(ask('/images/a') + ask('/tickets/b') + ask('/images/c') + ask('/tickets/d'))
  await sleep(30)
  t.equal(wire.size, 0, 'the first keeps all others back')
  openGate()
  const texts: string[] = []
  for (let count = 0; count < 4; count++) texts.push((await wire.response()).text)
  t.strictSame(texts, ['waited a\n', 'hello b\n', 'waited c\n', 'hello d\n'])
})

t.test('a pipelined request does not begin before the one before it has ended', async (t) => {
  const events: string[] = []
  const handler: Handler = async (exchange) => {
    events.push(`${exchange.id} begins`)
    await sleep(10)
    events.push(`${exchange.id} ends`)
    exchange.send(200)
  }
  const { open } = await serve(t, handler)
  const wire = await open()
  await wire.send(ask('/images/a') + ask('/images/b'))
  await wire.response()
  await wire.response()
  t.strictSame(events, ['a begins', 'a ends', 'b begins', 'b ends'])
})

t.test('nothing pipelined behind a request that closes is executed', async (t) => {
  const ids: string[] = []
  const handler: Handler = (exchange) => {
    ids.push(exchange.id)
    exchange.closeAfter()
    exchange.send(200)
  }
  const { open } = await serve(t, handler)
  const wire = await open()
  const reply = await wire.ask(ask('/images/a') + ask('/images/b') + ask('/images/c'))
  t.equal(reply.headers['connection'], 'close')
  wire.end()
  t.equal(await wire.isClosedSilently(), true)
  t.strictSame(ids, ['a'])
})

t.test('who sends far too many requests ahead gets the first answers, and the end', async (t) => {
  const { open } = await serve(t, hello)
  const wire = await open()
  await wire.send(ask('/images/a').repeat(150))
  const answers = (await wire.rest(5000)).toString('latin1').match(/HTTP\/1\.1 200/g) ?? []
  t.ok(answers.length >= 100 && answers.length < 150, `${answers.length} answers`)
})

t.test('a request with wrong framing is refused and ends the connection', async (t) => {
  const ids: string[] = []
  const { open } = await serve(t, (exchange) => void ids.push(exchange.id))
  const wire = await open()
  const reply = await wire.ask(ask('/images/a', 'host: other') + ask('/images/b'))
  t.equal(reply.status, 400)
  t.equal(reply.headers['connection'], 'close')
  wire.end()
  t.equal(await wire.isClosedSilently(), true)
  t.strictSame(ids, [])
})

t.test(
  'no path, no method and no Host have their answers, and the connection goes on',
  async (t) => {
    const { open } = await serve(t, hello, { requireHost: false })
    const wire = await open()
    const nowhere = await wire.ask(ask('/nowhere'))
    t.equal(nowhere.status, 404)
    const method = await wire.ask('DELETE /images/a HTTP/1.1\r\nhost: h\r\n\r\n')
    t.equal(method.status, 405)
    t.equal(method.headers['allow'], 'GET')
    t.equal((await wire.ask('PROPFIND /images/a HTTP/1.1\r\nhost: h\r\n\r\n')).status, 405)
    t.equal((await wire.ask('GET /images/% HTTP/1.1\r\nhost: h\r\n\r\n')).status, 404)
    t.equal((await wire.ask('GET /images/a HTTP/1.1\r\n\r\n')).text, 'hello a\n')
  },
)

t.test('a handler that throws has an answer, and ends nothing', async (t) => {
  const { open, lines } = await serve(t, () => Promise.reject(new Error('why')))
  const wire = await open()
  t.equal((await wire.ask(ask('/images/a'))).status, 500)
  t.equal((await wire.ask(ask('/images/a'))).status, 500)
  t.match(
    lines.filter(({ level }) => level === 50),
    [{ err: { message: 'why' } }, { err: { message: 'why' } }],
  )
})

t.test('100 Continue comes when the body is wanted, and not before', async (t) => {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const put: Handler = async (exchange) => {
    if (exchange.id === 'denied') {
      exchange.send(403)
      return
    }
    await promise
    exchange.sendJson(await exchange.readJson())
  }
  const { open } = await serve(t, [{ path: '/images/:id', methods: { PUT: put } }])
  const head = (id: string): string =>
    `PUT /images/${id} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n`
  const wire = await open()
  await wire.send(head('a'))
  await sleep(20)
  t.equal(wire.size, 0)
  resolve(undefined)
  t.equal((await wire.response()).status, 100)
  t.equal((await wire.ask('[]')).text, '[]\n')
  const denied = await wire.ask(head('denied'))
  t.equal(denied.status, 403)
  t.equal(denied.headers['connection'], 'close', 'who knows whether the body comes')
})

t.test('a body that nobody reads is not the next request', async (t) => {
  const ids: string[] = []
  const put: Handler = (exchange) => {
    ids.push(exchange.id)
    exchange.send(200)
  }
  const { open } = await serve(t, [{ path: '/images/:id', methods: { PUT: put } }])
  const wire = await open()
  const inner = 'PUT /images/b HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n'
  const length = `content-length: ${inner.length}\r\n`
  await wire.send(`PUT /images/a HTTP/1.1\r\nhost: h\r\n${length}\r\n`)
  t.equal((await wire.response()).headers['connection'], 'close')
  await wire.send(inner)
  wire.end()
  t.equal(await wire.isClosedSilently(), true)
  t.strictSame(ids, ['a'])
})

t.test('idle connections are closed, busy ones are not', async (t) => {
  const { handler, open: openGate, isWaiting } = gate()
  const { open } = await serve(t, handler, { limits: { ...LIMITS, idleTimeout: 0.2 } })
  const [idle, busy] = [await open(), await open()]
  await busy.send(ask('/images/a'))
  await until('the request', isWaiting)
  t.equal(await idle.isClosedSilently(2000), true)
  await sleep(600)
  t.equal(busy.isEnded, false)
  openGate()
  t.equal((await busy.response()).status, 200)
  t.equal(await busy.isClosedSilently(2000), true)
})

t.test('an authorized connection may be idle for as long as its ticket says', async (t) => {
  const handler: Handler = (exchange) => {
    exchange.connection.authorized(60_000)
    exchange.send(200)
  }
  const { open } = await serve(t, handler, { limits: { ...LIMITS, idleTimeout: 0.2 } })
  const [known, unknown] = [await open(), await open()]
  await known.ask(ask('/images/a'))
  t.equal(await unknown.isClosedSilently(2000), true)
  await sleep(600)
  t.equal((await known.ask(ask('/images/a'))).status, 200)
})

t.test('one address gets no more connections than its share', async (t) => {
  const limits = { maxConnections: 10, maxConnectionsPerAddress: 2 }
  const { open, lines } = await serve(t, hello, { admission: new Admission(limits) })
  const [first, second, third] = [await open(), await open(), await open()]
  t.equal(await third.isClosedSilently(), true)
  t.match(
    lines.find(({ level }) => level === 40),
    { reason: 'too many connections', client: '127.0.0.1' },
  )
  t.equal((await first.ask(ask('/images/a'))).status, 200)
  t.equal((await second.ask(ask('/images/a'))).status, 200)
  first.destroy()
  await until('a place', async () => {
    const next = await open()
    return next.ask(ask('/images/a')).then(
      () => true,
      () => false,
    )
  })
})

t.test('a TLS connection takes its place before its handshake', async (t) => {
  const limits = { maxConnections: 1, maxConnectionsPerAddress: 1 }
  const admission = new Admission(limits)
  const { target } = await serve(t, hello, { tls: tlsMaterial(), admission })
  if ('path' in target) throw new Error('TCP expected')
  const silent = net.connect(target)
  t.teardown(() => silent.destroy())
  await once(silent, 'connect')
  await t.rejects(handshake(t, target))
  silent.destroy()
  await until('the place', () => {
    const leave = admission.enter('127.0.0.1')
    leave?.()
    return leave !== undefined
  })
  t.equal((await handshake(t, target)).authorized, true)
})

t.test('a peer that may not connect is closed and leaves its place', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  let isWelcome = false
  const admission = new Admission({ maxConnections: 1, maxConnectionsPerAddress: 1 })
  const path = join(dir, 'sock')
  const { open } = await serve(t, hello, { path, admission, mayConnect: () => isWelcome })
  t.equal(await (await open()).isClosedSilently(), true)
  isWelcome = true
  t.equal((await (await open()).ask(ask('/images/a'))).text, 'hello a\n')
})

t.test('a handshake must not take for ever', async (t) => {
  const limits = { ...LIMITS, handshakeTimeout: 0.2 }
  const { target } = await serve(t, hello, { tls: tlsMaterial(), limits })
  if ('path' in target) throw new Error('TCP expected')
  const silent = net.connect(target)
  t.teardown(() => silent.destroy())
  silent.on('error', () => undefined).resume()
  await within('closing', 3000, once(silent, 'close'))
  t.pass()
})

t.test('a client that offers both protocols gets HTTP/1.1', async (t) => {
  const { target } = await serve(t, hello, { tls: tlsMaterial() })
  t.equal((await handshake(t, target, ['h2', 'http/1.1'])).alpnProtocol, 'http/1.1')
  t.equal((await handshake(t, target, ['http/1.1', 'h2'])).alpnProtocol, 'http/1.1')
  t.equal((await handshake(t, target, ['h2'])).alpnProtocol, 'h2')
  t.equal((await handshake(t, target)).alpnProtocol, false)
  await t.rejects(handshake(t, target, ['spdy/3']), { code: /ALPN|ALERT/ })
})

t.test('both protocols serve the same routes', async (t) => {
  const { target } = await serve(t, hello, { tls: tlsMaterial() })
  t.equal((await request(target, 'GET', '/images/a')).text, 'hello a\n')
  const session = await openH2(target)
  t.teardown(() => session.destroy())
  const reply = await requestH2(session, 'GET', '/images/a%2Fb')
  t.equal(reply.text, 'hello a/b\n')
  t.equal(reply.headers['connection'], undefined)
  t.equal((await requestH2(session, 'DELETE', '/images/a')).status, 405)
  t.equal((await requestH2(session, 'GET', '/nowhere')).status, 404)
  const fields = Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`x-${index}`, 'v']))
  t.equal((await requestH2(session, 'GET', '/images/a', { headers: fields })).status, 431)
})

t.test('requests of one HTTP/2 session run at the same time', async (t) => {
  const { handler, open: openGate, isWaiting } = gate()
  const routes: Route[] = [
    { path: '/images/:id', methods: { GET: handler } },
    { path: '/tickets/:id', methods: { GET: hello } },
  ]
  const { target } = await serve(t, routes, { tls: tlsMaterial() })
  const session = await openH2(target)
  t.teardown(() => session.destroy())
  const slow = requestH2(session, 'GET', '/images/a')
  await until('the request', isWaiting)
  t.equal((await requestH2(session, 'GET', '/tickets/b')).text, 'hello b\n')
  openGate()
  t.equal((await slow).text, 'waited a\n')
})

t.test('HTTP/2 windows are small until somebody is authorized', async (t) => {
  const handler: Handler = (exchange) => {
    if (exchange.id === 'good') exchange.connection.authorized(60_000)
    exchange.send(200)
  }
  const { target } = await serve(t, handler, { tls: tlsMaterial() })
  const session = await openH2(target)
  t.teardown(() => session.destroy())
  await requestH2(session, 'GET', '/images/bad')
  t.equal(session.remoteSettings.initialWindowSize, 65_535)
  t.equal(session.state.remoteWindowSize, 65_535)
  await requestH2(session, 'GET', '/images/good')
  await until('larger windows', () => session.remoteSettings.initialWindowSize === 16 * MIB)
  await until('a larger session', () => session.state.remoteWindowSize === 32 * MIB)
  await requestH2(session, 'GET', '/images/good')
  t.equal(session.remoteSettings.maxConcurrentStreams, 16)
})

t.test('an idle HTTP/2 session is closed', async (t) => {
  const limits = { ...LIMITS, idleTimeout: 0.2 }
  const { target } = await serve(t, hello, { tls: tlsMaterial(), limits })
  const session = await openH2(target)
  await within('closing', 2000, once(session, 'close'))
  t.pass()
})

/** A self-signed certificate for this name. */
function selfSigned(t: Test, name: string): TlsMaterial {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const [key, cert] = [join(dir, 'key'), join(dir, 'cert')]
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1']
  const files = ['-subj', `/CN=${name}`, '-keyout', key, '-out', cert]
  execFileSync('openssl', ['req', '-x509', ...kind, ...files], { stdio: 'pipe' })
  return { key: readFileSync(key), cert: readFileSync(cert) }
}

t.test('a new certificate is for new connections', async (t) => {
  const { server, target, open } = await serve(t, hello, { tls: tlsMaterial() })
  const old = await open()
  server.replaceCertificate(selfSigned(t, 'second'))
  t.equal((await old.ask(ask('/images/a'))).status, 200)
  if ('path' in target) throw new Error('TCP expected')
  const { host, port } = target
  const fresh = tls.connect({ host, port, rejectUnauthorized: false })
  t.teardown(() => fresh.destroy())
  await once(fresh, 'secureConnect')
  t.equal(fresh.getPeerCertificate().subject.CN, 'second')
  t.match(fresh.getProtocol(), /TLSv1\.[23]/)
})

t.test('old versions and weak suites find no server', async (t) => {
  const { target } = await serve(t, hello, { tls: tlsMaterial() })
  if ('path' in target) throw new Error('TCP expected')
  const { host, port, ca = '' } = target
  const attempt = async (options: tls.ConnectionOptions): Promise<string | null> => {
    const socket = tls.connect({ host, port, ca, ...options })
    t.teardown(() => socket.destroy())
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(5000) })
    return socket.getProtocol()
  }
  t.equal(await attempt({ maxVersion: 'TLSv1.2' }), 'TLSv1.2')
  t.equal(await attempt({ minVersion: 'TLSv1.3' }), 'TLSv1.3')
  await t.rejects(attempt({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256' }))
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' } as const
  await t.rejects(attempt(old))
})

t.test('an address in use is an error', async (t) => {
  const { server } = await serve(t, hello)
  const { address } = server
  if (typeof address === 'string') throw new Error('TCP expected')
  const listening = serve(t, hello).then(({ server: other }) =>
    other.listen({ host: '127.0.0.1', port: address.port }),
  )
  await t.rejects(listening, { code: /EADDRINUSE|ERR_SERVER_ALREADY_LISTEN/ })
})
