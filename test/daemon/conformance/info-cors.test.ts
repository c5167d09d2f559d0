import t from 'tap'
import { request, requestH2, openH2, type Reply } from '../../support/http.js'
import { startDaemon } from '../../support/daemon.js'

/** The access-control fields, without their prefix. */
function cors({ headers }: Reply): Record<string, string> {
  const prefix = 'access-control-'
  const fields = Object.entries(headers).filter(([name]) => name.startsWith(prefix))
  return Object.fromEntries(fields.map(([name, value]) => [name.slice(prefix.length), value]))
}

/** Methods of a list, in any order. */
function methods(list = ''): Set<string> {
  return new Set(list.split(',').map((method) => method.trim()))
}

const ORIGIN = { origin: 'https://engine.example.com' }

t.test('148: info gives the version on the remote service only', async (t) => {
  const daemon = await startDaemon(t)
  const reply = await request(daemon.remote, 'GET', '/info/')
  t.equal(reply.status, 200)
  t.match(reply.json, { version: /^\d+\.\d+\.\d+/ })
  t.match(reply.headers['content-type'], /^application\/json/)
  t.ok(reply.text.endsWith('\n'), 'the JSON ends with a newline')
  t.equal((await request(daemon.local, 'GET', '/info/')).status, 404)
  t.equal((await request(daemon.control, 'GET', '/info/')).status, 404)
  const portal = await request(daemon.remote, 'GET', '/info/', { headers: ORIGIN })
  t.match(cors(portal), { 'allow-origin': '*', 'max-age': '86400' })
  t.equal((await request(daemon.remote, 'OPTIONS', '/info/')).status, 405)
})

t.test('149-156: other origins', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage()
  const readOnly = await daemon.addImage(8192, { ops: ['read'] })
  const ask = (method: string, url: string, headers: Record<string, string>, body?: string) =>
    request(daemon.remote, method, url, { headers, ...(body === undefined ? {} : { body }) })

  t.test('149: GET with Origin allows every origin and nothing else', async (t) => {
    const reply = await ask('GET', image.url, ORIGIN)
    t.equal(reply.status, 200)
    const { 'expose-headers': exposed = '', ...rest } = cors(reply)
    t.strictSame(rest, { 'allow-origin': '*', 'max-age': '86400' })
    t.match(exposed, /content-range/i, 'the issue: useful headers are exposed')
    t.match(exposed, /content-disposition/i)
  })

  t.test('150: PUT with Origin allows every origin and nothing else', async (t) => {
    const reply = await ask('PUT', image.url, ORIGIN, 'hello')
    t.equal(reply.status, 200)
    const { 'expose-headers': exposed = '', ...rest } = cors(reply)
    t.strictSame(rest, { 'allow-origin': '*', 'max-age': '86400' })
    t.match(exposed, /etag/i)
  })

  t.test('151: errors have the same fields, as the portal reads their texts', async (t) => {
    const past = 'bytes=0-8192'
    for (const [reply, status] of [
      [await ask('GET', '/images/unknown', ORIGIN), 403],
      [await ask('PUT', '/images/unknown', ORIGIN, 'hello'), 403],
      [await ask('GET', image.url, { ...ORIGIN, range: past }), 416],
      [await ask('GET', image.url, { ...ORIGIN, range: 'junk' }), 416],
      [await ask('PUT', image.url, { ...ORIGIN, 'content-range': 'junk' }, 'hello'), 400],
      [await ask('PUT', readOnly.url, ORIGIN, 'hello'), 403],
    ] as const) {
      t.equal(reply.status, status)
      t.match(cors(reply), { 'allow-origin': '*', 'max-age': '86400' }, reply.text)
    }
  })

  t.test('152: a preflight is answered with the methods, PATCH among them', async (t) => {
    const reply = await ask('OPTIONS', image.url, {
      ...ORIGIN,
      'access-control-request-method': 'PATCH',
      'access-control-request-headers': 'content-range, cache-control',
    })
    t.equal(reply.status, 200)
    const { 'allow-methods': allowed, ...rest } = cors(reply)
    t.match(rest, { 'allow-origin': '*', 'allow-headers': '*', 'max-age': '86400' })
    for (const method of ['OPTIONS', 'GET', 'PUT', 'PATCH']) {
      t.ok(methods(allowed).has(method), `${method} is allowed`)
    }
    t.match(reply.json, { features: ['checksum', 'extents', 'flush', 'zero'] })
  })

  t.test('153: each request field has its own answer', async (t) => {
    const method = await ask('OPTIONS', image.url, { 'access-control-request-method': 'PUT' })
    t.strictSame(Object.keys(cors(method)).sort(), ['allow-methods', 'max-age'])
    const headers = await ask('OPTIONS', image.url, { 'access-control-request-headers': 'range' })
    t.strictSame(cors(headers), { 'allow-headers': '*', 'max-age': '86400' })
    const get = await ask('GET', image.url, { 'access-control-request-method': 'GET' })
    t.strictSame(cors(get), { 'allow-methods': '*', 'max-age': '86400' })
  })

  t.test('154: without any of the three there are no such fields', async (t) => {
    for (const [method, url] of [
      ['GET', image.url],
      ['OPTIONS', image.url],
      ['OPTIONS', '/images/*'],
      ['GET', `${image.url}/extents`],
      ['GET', `${image.url}/checksum`],
      ['GET', '/info/'],
      ['GET', '/images/unknown'],
    ] as const) {
      t.strictSame(cors(await ask(method, url, {})), {}, `${method} ${url.slice(0, 12)}`)
    }
    t.strictSame(cors(await ask('GET', image.url, { origin: '' })), {}, 'empty is absent')
  })

  t.test('155: a preflight of an unknown ticket gives 403 with the fields', async (t) => {
    const headers = { ...ORIGIN, 'access-control-request-method': 'PUT' }
    const reply = await ask('OPTIONS', '/images/unknown', headers)
    t.equal(reply.status, 403)
    t.match(cors(reply), { 'allow-origin': '*', 'max-age': '86400', 'allow-methods': /PUT/ })
  })

  t.test(
    '156: PATCH, extents and checksum have them, too, so that browsers can use them',
    async (t) => {
      const zero = await ask('PATCH', image.url, ORIGIN, '{"op":"zero","size":10}')
      t.equal(zero.status, 200)
      t.match(cors(zero), { 'allow-origin': '*', 'max-age': '86400' })
      const wrong = await ask('PATCH', image.url, ORIGIN, '{"op":"none"}')
      t.equal(wrong.status, 400)
      t.match(cors(wrong), { 'allow-origin': '*' })
      const preflight = { ...ORIGIN, 'access-control-request-method': 'GET' }
      for (const rest of ['extents', 'checksum', 'checksum/algorithms']) {
        const reply = await ask('GET', `${image.url}/${rest}`, ORIGIN)
        t.equal(reply.status, 200, rest)
        t.match(cors(reply), { 'allow-origin': '*', 'max-age': '86400' })
        const before = await ask('OPTIONS', `${image.url}/${rest}`, preflight)
        t.ok(before.status >= 200 && before.status < 300, `preflight of ${rest}: ${before.status}`)
        t.match(cors(before), { 'allow-origin': '*', 'allow-methods': /GET/ })
      }
    },
  )

  t.test('149: the same over HTTP/2', async (t) => {
    const session = await openH2(daemon.remote)
    t.teardown(() => session.destroy())
    const get = await requestH2(session, 'GET', image.url, { headers: ORIGIN })
    t.match(cors(get), { 'allow-origin': '*', 'max-age': '86400' })
    const headers = { ...ORIGIN, 'access-control-request-method': 'PATCH' }
    const preflight = await requestH2(session, 'OPTIONS', image.url, { headers })
    t.match(cors(preflight), { 'allow-methods': /PATCH/ })
  })
})
