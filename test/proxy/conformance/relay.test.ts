/** What goes through the proxy is what the daemon said (conformance, M). */
import t from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { request, keepAlive } from '../../support/http.js'
import { startPair } from '../../support/proxy.js'

const MiB = 1024 * 1024

t.test('M. through the proxy', async (t) => {
  const pair = await startPair(t)
  const { daemon, proxy } = pair

  t.test('219: download, also of a part', async (t) => {
    const content = randomBytes(5 * MiB + 123)
    const image = await pair.addImage(content)
    const whole = await request(proxy.remote, 'GET', image.url)
    t.equal(whole.status, 200)
    t.ok(whole.body.equals(content))
    t.equal(whole.headers['content-length'], String(content.length))
    const part = await request(proxy.remote, 'GET', image.url, { headers: { range: 'bytes=5-9' } })
    t.equal(part.status, 206)
    t.ok(part.body.equals(content.subarray(5, 10)))
    t.equal(part.headers['content-range'], `bytes 5-9/${content.length}`)
  })

  t.test('219-220: upload, of known and unknown length', async (t) => {
    const content = randomBytes(3 * MiB + 17)
    const image = await pair.addImage(content.length)
    const reply = await request(proxy.remote, 'PUT', image.url, { body: content })
    t.equal(reply.status, 200)
    t.ok(image.bytes().equals(content))
    const chunked = await request(proxy.remote, 'PUT', image.url, {
      headers: { 'transfer-encoding': 'chunked', 'content-range': 'bytes 4096-*/*' },
      body: Buffer.alloc(MiB, 'c'),
    })
    t.equal(chunked.status, 200, chunked.text)
    t.ok(
      image
        .bytes()
        .subarray(4096, 4096 + MiB)
        .equals(Buffer.alloc(MiB, 'c')),
    )
  })

  t.test("a ticket smaller than the daemon's makes the image that small", async (t) => {
    const content = randomBytes(200)
    const image = await pair.addImage(content, {}, { size: 100 })
    const get = (range: string, headers = {}) =>
      request(proxy.remote, 'GET', image.url, { headers: { range, ...headers } })
    for (const [range, told, bytes] of [
      ['bytes=0-9', 'bytes 0-9/100', content.subarray(0, 10)],
      ['bytes=50-', 'bytes 50-99/100', content.subarray(50, 100)],
      ['bytes=-10', 'bytes 90-99/100', content.subarray(90, 100)],
    ] as const) {
      const part = await get(range)
      t.match(part, { status: 206, headers: { 'content-range': told } }, range)
      t.ok(part.body.equals(bytes))
    }
    const stale = await get('bytes=0-9', { 'if-range': '"stale"' })
    t.equal(stale.status, 200)
    t.ok(stale.body.equals(content.subarray(0, 100)))
    const { etag } = (await request(proxy.remote, 'HEAD', image.url)).headers
    const fresh = await get('bytes=50-', { 'if-range': String(etag) })
    t.match(fresh, { status: 206, headers: { 'content-range': 'bytes 50-99/100' } })
  })

  t.test('a ticket of no bytes is an empty image, as at the daemon', async (t) => {
    const image = await pair.addImage(randomBytes(200), {}, { size: 0 })
    const direct = await daemon.addTicketFor(image.file, { size: 0 })
    for (const path of ['', '/extents', '/extents?start=0&length=10']) {
      const there = await request(daemon.remote, 'GET', direct.url + path)
      const here = await request(proxy.remote, 'GET', image.url + path)
      t.match(here, { status: there.status, text: there.text }, path)
      t.equal(here.headers['content-length'], there.headers['content-length'])
    }
    const digested = { headers: { 'want-content-digest': 'sha-256=1', te: 'trailers' } }
    const empty = await request(proxy.remote, 'GET', image.url, digested)
    t.match(empty, { status: 200, text: '' })
    t.equal(empty.headers['content-digest'], undefined, 'it would be one of other bytes')
    t.equal(empty.headers['trailer'], undefined)
    const lines = { headers: { accept: 'application/x-ndjson' } }
    const there = await request(daemon.remote, 'GET', `${direct.url}/extents`, lines)
    const here = await request(proxy.remote, 'GET', `${image.url}/extents`, lines)
    t.equal(here.text, there.text)
    t.equal(here.headers['content-type'], there.headers['content-type'])
    for (const range of ['bytes=-10', 'bytes=0-']) {
      const headers = { range }
      const there = await request(daemon.remote, 'GET', direct.url, { headers })
      const here = await request(proxy.remote, 'GET', image.url, { headers })
      t.equal(here.status, there.status, range)
    }
  })

  t.test('219: zero, flush, extents, checksum, options', async (t) => {
    const image = await pair.addImage(randomBytes(MiB))
    const agent = keepAlive(proxy.remote)
    t.teardown(() => agent.destroy())
    const zero = { body: JSON.stringify({ op: 'zero', offset: 4096, size: 8192, flush: true }) }
    t.equal((await request(proxy.remote, 'PATCH', image.url, { ...zero, agent })).status, 200)
    t.ok(image.bytes().subarray(4096, 12288).equals(Buffer.alloc(8192)))
    const flush = { body: JSON.stringify({ op: 'flush' }), agent }
    t.equal((await request(proxy.remote, 'PATCH', image.url, flush)).status, 200)
    for (const path of ['/extents', '/checksum', '/checksum?manifest=y', '/checksum/algorithms']) {
      const direct = await request(daemon.remote, 'GET', image.url + path)
      const relayed = await request(proxy.remote, 'GET', image.url + path, { agent })
      t.equal(relayed.status, 200, path)
      t.equal(relayed.text, direct.text, path)
      t.equal(relayed.headers['content-type'], direct.headers['content-type'])
    }
    const options = await request(proxy.remote, 'OPTIONS', image.url, { agent })
    const told = await request(daemon.remote, 'OPTIONS', image.url)
    const { unix_socket: socket, ...facts } = told.json as Record<string, unknown>
    t.equal(socket, daemon.localSocket)
    t.strictSame(options.json, { ...facts, unix_socket: proxy.localSocket })
    t.equal(options.headers['allow'], told.headers['allow'])
  })

  t.test('digests pass in both directions', async (t) => {
    const content = randomBytes(2 * MiB)
    const image = await pair.addImage(content)
    const digest = `sha-256=:${createHash('sha256').update(content).digest('base64')}:`
    const good = { headers: { 'content-digest': digest }, body: content }
    t.equal((await request(proxy.remote, 'PUT', image.url, good)).status, 200)
    const bad = { headers: { 'content-digest': digest }, body: randomBytes(2 * MiB) }
    t.match(await request(proxy.remote, 'PUT', image.url, bad), {
      status: 400,
      text: /does not match its Content-Digest/,
    })
  })
})
