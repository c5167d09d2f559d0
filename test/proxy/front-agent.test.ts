import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { DEFAULT_CIPHERS } from 'node:tls'
import t, { type Test } from 'tap'
import { Transport } from '../../native/transport.js'
import { createFrontAgent, dropStale } from '../../proxy/agents.js'
import { DaemonRequest } from '../../proxy/daemon-request.js'
import { testPki } from '../support/pki.js'
import { until, within } from '../support/wait.js'

const KIB = 1024
const SIZE = 3000 * KIB
const BYTES = Buffer.alloc(SIZE, 'the bytes of an image ')

interface Fixture {
  readonly agent: http.Agent
  readonly begin: (method: string, headers?: http.OutgoingHttpHeaders) => DaemonRequest
  /** Of the daemon. */
  readonly connections: () => number
  readonly server: https.Server
}

/** A daemon that does what the test says, and a way to it by the front. */
async function daemon(
  t: Test,
  serve: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Fixture> {
  const { keyFile, certFile, ca } = testPki()
  const key = readFileSync(keyFile)
  const server = https.createServer({ key, cert: readFileSync(certFile) }, serve)
  let connections = 0
  server.on('secureConnection', () => connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const transport = new Transport(2)
  const trust = transport.trust({ authorities: ca, key: '', cert: '', ciphers: DEFAULT_CIPHERS })
  const agent = createFrontAgent(transport, trust)
  t.teardown(() => {
    agent.destroy()
    transport.close()
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const begin: Fixture['begin'] = (method, headers) => beginWith(agent, port, method, headers)
  return { agent, begin, connections: () => connections, server }
}

function beginWith(
  agent: http.Agent,
  port: number,
  method: string,
  headers: http.OutgoingHttpHeaders = {},
  silenceMs = 5000,
): DaemonRequest {
  const giveUp = new AbortController()
  const givenUp = giveUp.signal
  const at = { host: '127.0.0.1', port, method, headers, agent, givenUp }
  return new DaemonRequest(http.request(at), {
    deadlines: { connectMs: 5000, silenceMs, answerMs: 5000 },
    takesWithheld: method === 'GET',
    giveUp,
  })
}

async function readAll(read: (target: Buffer) => Promise<number>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for (;;) {
    const target = Buffer.alloc(1000 * KIB)
    const size = await read(target)
    if (size === 0) return Buffer.concat(chunks)
    chunks.push(target.subarray(0, size))
  }
}

t.test('a large body goes around Node, and its connection is kept', async (t) => {
  const { begin, connections } = await daemon(t, (_request, response) => {
    response.writeHead(206, { 'content-length': SIZE, etag: '"1"' }).end(BYTES)
  })
  for (let round = 0; round < 3; round++) {
    const request = begin('GET')
    request.end()
    const { status, head, body } = await request.answer
    t.equal(status, 206)
    t.match(head.headers, { 'content-length': String(SIZE), etag: '"1"' })
    t.notOk('x-imageio-withheld' in head.headers)
    const got = await readAll((target) => body.read(target, 20))
    t.ok(got.equals(BYTES))
    t.ok(head.socket.bytesRead < SIZE / 10, 'Node has seen heads')
    body.release()
    await new Promise(setImmediate)
    t.equal(request.isReused, round > 0)
  }
  t.equal(connections(), 1)
})

t.test('what is small, or has no length, does not', async (t) => {
  const { begin, connections } = await daemon(t, (request, response) => {
    if (request.headers.range === 'bytes=0-2') response.setHeader('content-length', 3).end('abc')
    else response.write('chunked', () => response.end())
  })
  for (const range of ['bytes=0-2', 'bytes=0-']) {
    const request = begin('GET', { range })
    request.end()
    const { head, body } = await request.answer
    t.equal(head.headers['transfer-encoding'], range === 'bytes=0-' ? 'chunked' : undefined)
    t.match(await readAll((target) => body.read(target)), /^(abc|chunked)$/)
    body.release()
    await new Promise(setImmediate)
  }
  t.equal(connections(), 1)
})

t.test('a body that nobody takes ends its connection', async (t) => {
  const { begin, agent, connections, server } = await daemon(t, (_request, response) => {
    response.writeHead(200, { 'content-length': SIZE }).end(BYTES)
  })
  for (let round = 0; round < 2; round++) {
    const request = begin('GET')
    request.end()
    const { body } = await request.answer
    t.equal(await body.read(Buffer.alloc(10)), 10)
    body.release()
    await until('the connection has ended', () => Object.keys(agent.sockets).length === 0)
  }
  t.equal(connections(), 2)
  t.strictSame(Object.keys(agent.freeSockets), [])
  server.close()
})

t.test('a body that is cut short is an error, after what came', async (t) => {
  const { begin } = await daemon(t, (_request, response) => {
    response.writeHead(200, { 'content-length': SIZE })
    response.write(BYTES.subarray(0, SIZE / 2), () => response.destroy())
  })
  const request = begin('GET')
  request.end()
  const { body } = await request.answer
  let size = 0
  const reading = readAll(async (target) => {
    const read = await body.read(target, 20)
    size += read
    return read
  })
  await t.rejects(within('the end', 5000, reading), { code: 'ERR_DAEMON_GONE' })
  t.ok(size <= SIZE / 2)
  body.release()
})

t.test('a field of ours that a daemon sends means nothing', async (t) => {
  const { begin } = await daemon(t, (_request, response) => {
    response.setHeader('x-imageio-withheld', `${'0'.repeat(32)}.1 ${SIZE}`)
    response.setHeader('content-length', SIZE).end(BYTES)
  })
  const request = begin('GET')
  request.end()
  const { head, body } = await request.answer
  const { socket } = head // Node takes it away in time
  t.equal(head.headers['content-length'], String(SIZE))
  t.ok((await readAll((target) => body.read(target))).equals(BYTES))
  t.ok(socket.bytesRead > SIZE, 'through Node')
  body.release()
})

t.test('an upload goes around Node', async (t) => {
  const { begin, connections } = await daemon(t, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      response.end(Buffer.concat(chunks).equals(BYTES) ? 'equal' : 'different')
    })
  })
  for (let round = 0; round < 2; round++) {
    const request = begin('PUT', { 'content-length': SIZE })
    await request.connected()
    const first = SIZE / 2
    await request.write(BYTES.subarray(0, first))
    await request.write(BYTES.subarray(first, SIZE - 10))
    await request.write(BYTES.subarray(SIZE - 10))
    request.end()
    t.ok(request.hasAll(SIZE))
    const { head, body } = await request.answer
    const { socket } = head // Node takes it away in time
    t.equal((await readAll((target) => body.read(target))).toString(), 'equal')
    t.ok(socket.bytesWritten < SIZE / 10, 'Node has written heads, and what is small')
    body.release()
    await new Promise(setImmediate)
  }
  t.equal(connections(), 1)
})

t.test('a refusal is read, though the daemon takes no more and goes', async (t) => {
  const { begin } = await daemon(t, (request, response) => {
    response.writeHead(403, { connection: 'close', 'content-length': 2 })
    response.end('no', () => request.socket.destroy())
  })
  const request = begin('PUT', { 'content-length': 100 * SIZE })
  await request.connected()
  const sending = (async () => {
    for (let sent = 0; sent < 100; sent++) await request.write(BYTES)
  })()
  await t.rejects(within('sending', 5000, sending), 'the daemon has answered')
  const { status, body } = await request.answer
  t.equal(status, 403)
  t.equal((await readAll((target) => body.read(target))).toString(), 'no')
  body.release()
})

t.test('a connection that its daemon has ended is not used again', async (t) => {
  const { begin, agent, server } = await daemon(t, (_request, response) => void response.end('x'))
  const request = begin('GET')
  request.end()
  const { body } = await request.answer
  await readAll((target) => body.read(target))
  body.release()
  await until('it is kept', () => Object.keys(agent.freeSockets).length === 1)
  server.closeAllConnections()
  await until('it is known', () => {
    dropStale(agent)
    return Object.values(agent.freeSockets).every((sockets) => sockets?.every((s) => s.destroyed))
  })
})

t.test('who gives up while it connects does not wait', async (t) => {
  const { begin } = await daemon(t, () => undefined)
  const request = begin('GET')
  request.end()
  const reason = new Error('canceled')
  request.cancel(reason)
  await t.rejects(within('the end', 5000, request.answer), reason)
  const later = begin('PUT', { 'content-length': 3 })
  await later.connected()
  later.cancel(reason)
  await t.rejects(within('the end', 5000, later.answer), reason)
})

/** TLS of another process, which sends what is written to `say`, and a way to it. */
async function openssl(t: Test, options: readonly string[]) {
  const { keyFile, certFile, ca } = testPki()
  const own = ['-accept', '127.0.0.1:0', '-key', keyFile, '-cert', certFile]
  const server = spawn('openssl', ['s_server', ...own, ...options], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  t.teardown(() => void server.kill('SIGKILL'))
  let said = ''
  server.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  const [, port] = await until('it listens', () => /ACCEPT .*:(\d+)/.exec(said) ?? undefined)
  const transport = new Transport(1)
  const trust = transport.trust({ authorities: ca, key: '', cert: '', ciphers: DEFAULT_CIPHERS })
  const agent = createFrontAgent(transport, trust)
  t.teardown(() => {
    agent.destroy()
    transport.close()
  })
  return {
    agent,
    port: Number(port),
    said: () => said,
    say: (text: string) => server.stdin.write(text),
  }
}

t.test('TLS that goes on is no body that does', async (t) => {
  const { agent, port, said, say } = await openssl(t, ['-crlf'])
  const request = beginWith(agent, port, 'GET', {}, 500)
  request.end()
  await until('the request', () => said().includes('GET / '))
  say('HTTP/1.1 200 OK\nContent-Length: 100000\n\n')
  const { body } = await request.answer
  const updates = setInterval(() => say('k\n'), 100) // of keys
  t.teardown(() => clearInterval(updates))
  const reading = readAll((target) => body.read(target, 20))
  await t.rejects(within('the end', 4000, reading), { code: 'ERR_DAEMON_TIMEOUT' })
  body.release()
})

t.test('a connection that breaks before Node looks at it', async (t) => {
  // Not in this process, whose thread is busy: what opens and what ends a connection come at once.
  const verify = ['-CAfile', testPki().caFile, '-Verify', '1', '-verify_return_error']
  const { agent, port } = await openssl(t, verify)
  const busy = setInterval(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50))
  t.teardown(() => clearInterval(busy))
  for (let round = 0; round < 10; round++) {
    const request = beginWith(agent, port, 'GET')
    request.end()
    await t.rejects(within('the end', 4000, request.answer), { code: 'ERR_DAEMON_DISTRUSTS' })
  }
})
