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
