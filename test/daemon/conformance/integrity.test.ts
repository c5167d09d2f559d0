import t from 'tap'
import { createHash } from 'node:crypto'
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import type { ClientHttp2Session } from 'node:http2'
import { startDaemon } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2 } from '../../support/http.js'
import { Wire, type Target } from '../../support/wire.js'

const MiB = 1024 * 1024
const HOST = 'Host: localhost\r\n'

const digest = (name: 'sha-256' | 'sha-512', bytes: Buffer | string): string =>
  `${name}=:${createHash(name.replace('-', '')).update(bytes).digest('base64')}:`

interface Download {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly trailers: IncomingHttpHeaders
  readonly body: Buffer
}

function download(
  target: Target,
  path: string,
  headers: Record<string, string>,
): Promise<Download> {
  return new Promise((resolve, reject) => {
    const options = {
      path,
      headers,
      agent: false,
      ...('path' in target ? { socketPath: target.path } : target),
    }
    const onResponse = (response: IncomingMessage): void => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const { statusCode = 0, trailers } = response
        const body = Buffer.concat(chunks)
        resolve({ status: statusCode, headers: response.headers, trailers, body })
      })
    }
    const client = 'ca' in target ? https : http
    client.get(options, onResponse).on('error', reject)
  })
}

function downloadH2(
  session: ClientHttp2Session,
  path: string,
  fields: Record<string, string>,
): Promise<Download> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ...fields, ':path': path })
    const chunks: Buffer[] = []
    let headers: IncomingHttpHeaders = {}
    let trailers: IncomingHttpHeaders = {}
    stream.on('response', (received) => (headers = received))
    stream.on('trailers', (received: IncomingHttpHeaders) => (trailers = received))
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('error', reject)
    stream.on('close', () => {
      const status = Number(headers[':status' as never])
      resolve({ status, headers, trailers, body: Buffer.concat(chunks) })
    })
  })
}

t.test('Content-Digest of an upload is verified before the answer', async (t) => {
  const daemon = await startDaemon(t)
  const body = Buffer.alloc(5 * MiB + 123, 'upload')
  const session = await openH2(daemon.remote)
  t.teardown(() => session.close())

  t.test('a digest that matches', async (t) => {
    const image = await daemon.addImage(0, { size: 8 * MiB })
    for (const field of [
      digest('sha-256', body),
      digest('sha-512', body),
      `${digest('sha-512', body)}, ${digest('sha-256', body)}`,
      `md5=:aa==:, ${digest('sha-256', body)};x=1`,
    ]) {
      const ask = { headers: { 'content-digest': field }, body }
      t.equal((await request(daemon.remote, 'PUT', image.url, ask)).status, 200, field)
      t.equal((await requestH2(session, 'PUT', image.url, ask)).status, 200, field)
    }
    t.ok(image.bytes().equals(body))
  })

  t.test('one that does not: 400, and the text says what to do', async (t) => {
    const other = digest('sha-256', 'other')
    for (const field of [
      other,
      digest('sha-512', 'other'),
      `${digest('sha-512', body)}, ${other}`,
    ]) {
      const image = await daemon.addImage(0, { size: 8 * MiB })
      const ask = { headers: { 'content-digest': field }, body }
      const agent = keepAlive(daemon.remote)
      const reply = await request(daemon.remote, 'PUT', image.url, { ...ask, agent })
      t.equal(reply.status, 400)
      t.match(reply.text, /range must be sent again/)
      t.equal((await request(daemon.remote, 'GET', image.url, { agent })).status, 200)
      agent.destroy()
      t.match(await requestH2(session, 'PUT', image.url, ask), {
        status: 400,
        text: /sent again/,
      })
    }
    t.match(daemon.logText(), /ERR_CONTENT_DIGEST/)
  })

  t.test('a part, chunks, and nothing', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(100), {})
    const part = { 'content-range': 'bytes 10-14/*', 'content-digest': digest('sha-256', 'hello') }
    const put = (headers: Record<string, string>, content: string) =>
      request(daemon.remote, 'PUT', image.url, { headers, body: content })
    t.equal((await put(part, 'hello')).status, 200)
    t.equal((await put(part, 'hellO')).status, 400)
    t.equal((await put({ 'content-digest': digest('sha-256', '') }, '')).status, 200)
    t.equal((await put({ 'content-digest': digest('sha-256', 'x') }, '')).status, 400)
    for (const [sent, status] of [
      ['hello', 200],
      ['jello', 400],
    ] as const) {
      const wire = await Wire.open(daemon.remote)
      const head =
        `PUT ${image.url} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n` +
        `Content-Digest: ${digest('sha-512', 'hello')}\r\n\r\n`
      const reply = await wire.ask(
        `${head}2\r\n${sent.slice(0, 2)}\r\n3\r\n${sent.slice(2)}\r\n0\r\n\r\n`,
      )
      t.equal(reply.status, status)
      wire.destroy()
    }
  })

  t.test('a digest behind the body that was announced', async (t) => {
    const image = await daemon.addImage(5)
    for (const [field, status] of [
      [digest('sha-512', 'hello'), 200],
      [digest('sha-256', 'hello'), 200],
      [digest('sha-256', 'jello'), 400],
      ['sha-256=:aa==:', 400],
    ] as const) {
      const wire = await Wire.open(daemon.remote)
      const head =
        `PUT ${image.url} HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n` +
        `Trailer: Expires, Content-Digest\r\n\r\n`
      const reply = await wire.ask(`${head}5\r\nhello\r\n0\r\nContent-Digest: ${field}\r\n\r\n`)
      t.equal(reply.status, status, field)
      wire.destroy()
    }
    const session = await openH2(daemon.remote)
    t.teardown(() => session.close())
    for (const [text, status] of [
      ['hello', 200],
      ['jello', 400],
    ] as const) {
      const stream = session.request(
        { ':method': 'PUT', ':path': image.url, 'content-length': 5, trailer: 'content-digest' },
        { waitForTrailers: true },
      )
      stream.on('wantTrailers', () =>
        stream.sendTrailers({ 'content-digest': digest('sha-256', text) }),
      )
      const answered = new Promise<number>((resolve) =>
        stream.once('response', (headers) => resolve(Number(headers[':status']))),
      )
      stream.end('hello')
      t.equal(await answered, status)
      stream.close()
    }
  })

  t.test('a malformed field is refused before anything is written, or authorized', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(5, 'a'))
    for (const field of ['sha-256', 'sha-256=abc', 'sha-256=:aa==:', 'x=:', 'sha-512=:####:']) {
      const ask = { headers: { 'content-digest': field }, body: 'hello' }
      t.equal((await request(daemon.remote, 'PUT', image.url, ask)).status, 400, field)
      t.equal((await request(daemon.remote, 'PUT', '/images/unknown', ask)).status, 400, field)
    }
    t.equal(image.bytes().toString(), 'aaaaa')
  })

  t.test('algorithms nobody knows are ignored', async (t) => {
    const image = await daemon.addImage(10)
    const headers = { 'content-digest': 'md5=:aa==:, unixsum=5, sha=:aa==:' }
    t.equal((await request(daemon.remote, 'PUT', image.url, { headers, body: 'x' })).status, 200)
  })

  t.test('a body that ends early is told as such', async (t) => {
    const image = await daemon.addImage(100)
    const wire = await Wire.open(daemon.local)
    await wire.send(
      `PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 10\r\n` +
        `Content-Digest: ${digest('sha-256', 'hello')}\r\n\r\nhello`,
    )
    wire.end()
    const reply = await wire.response()
    t.equal(reply.status, 400)
    t.match(reply.body.toString(), /not complete/)
  })
})

t.test('Want-Content-Digest of a download', async (t) => {
  const daemon = await startDaemon(t)
  const content = Buffer.alloc(5 * MiB + 123, 'download')
  const image = await daemon.addImage(content)
  const want = { 'want-content-digest': 'sha-256=10' }
  const session = await openH2(daemon.remote)
  t.teardown(() => session.close())

  t.test('of one piece: in the header, with its length', async (t) => {
    for (const [first, last] of [
      [0, 0],
      [4096, 4096 + MiB - 1],
      [513, 1023],
    ] as const) {
      const fields = { ...want, range: `bytes=${first}-${last}` }
      for (const target of [daemon.remote, daemon.local]) {
        const reply = await download(target, image.url, fields)
        t.equal(reply.status, 206)
        t.equal(reply.headers['content-length'], String(last - first + 1))
        t.equal(reply.headers['content-digest'], digest('sha-256', reply.body))
        t.strictSame(reply.trailers, {})
      }
      const h2 = await downloadH2(session, image.url, fields)
      t.equal(h2.headers['content-digest'], digest('sha-256', h2.body))
    }
  })

  t.test('of nothing', async (t) => {
    const empty = await daemon.addImage(0, { size: 10 })
    const reply = await download(daemon.remote, empty.url, want)
    t.equal(reply.headers['content-digest'], digest('sha-256', ''))
    t.equal(reply.headers['content-length'], '0')
  })

  t.test('of more, over HTTP/1.1: in the trailers for who takes them', async (t) => {
    for (const target of [daemon.remote, daemon.local]) {
      const fields = { 'want-content-digest': 'sha-512=3, sha-256=1', te: 'trailers' }
      const reply = await download(target, image.url, fields)
      t.equal(reply.status, 200)
      t.equal(reply.headers['content-length'], undefined)
      t.equal(reply.headers['trailer'], 'content-digest')
      t.equal(reply.trailers['content-digest'], digest('sha-512', content))
      t.ok(reply.body.equals(content))
    }
    const part = await download(daemon.remote, image.url, {
      ...want,
      te: 'gzip, Trailers',
      range: 'bytes=100-2000000',
    })
    t.equal(part.status, 206)
    t.equal(part.trailers['content-digest'], digest('sha-256', content.subarray(100, 2000001)))
  })

  t.test('of more, over HTTP/2: in the trailers, with its length', async (t) => {
    const reply = await downloadH2(session, image.url, want)
    t.equal(reply.headers['content-length'], String(content.length))
    t.equal(reply.headers['trailer'], 'content-digest')
    t.equal(reply.trailers['content-digest'], digest('sha-256', content))
    t.ok(reply.body.equals(content))
  })

  t.test('who takes no trailers, or wants nothing we have, gets the body alone', async (t) => {
    for (const fields of [
      want,
      { 'want-content-digest': 'md5=10', te: 'trailers' },
      { 'want-content-digest': 'sha-256=0', te: 'trailers' },
      { 'want-content-digest': 'nonsense=', te: 'trailers' },
      { te: 'trailers' },
    ]) {
      const reply = await download(daemon.remote, image.url, fields)
      t.equal(reply.status, 200)
      t.equal(reply.headers['content-length'], String(content.length))
      t.notOk('content-digest' in reply.headers)
      t.strictSame(reply.trailers, {})
      t.ok(reply.body.equals(content))
    }
    const wire = await Wire.open(daemon.remote)
    const old = await wire.ask(
      `GET ${image.url} HTTP/1.0\r\nTE: trailers\r\nWant-Content-Digest: sha-256=1\r\n\r\n`,
    )
    t.equal(old.headers['content-length'], String(content.length))
    wire.destroy()
  })

  t.test('the next request on the connection is served', async (t) => {
    const agent = keepAlive(daemon.remote)
    const headers = { ...want, te: 'trailers' }
    for (let round = 0; round < 3; round++) {
      const reply = await request(daemon.remote, 'GET', image.url, { headers, agent })
      t.ok(reply.body.equals(content))
    }
    agent.destroy()
  })
})
