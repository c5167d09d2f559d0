import t from 'tap'
import { existsSync } from 'node:fs'
import { startDaemon, type Daemon, type TestImage } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { Wire, type Target, type WireResponse } from '../../support/wire.js'

const HOST = 'Host: localhost\r\n'

/** One request with exactly this head and body, on its own connection. */
async function ask(target: Target, bytes: string, options = {}): Promise<WireResponse> {
  const wire = await Wire.open(target)
  try {
    return await wire.ask(bytes, options)
  } finally {
    wire.destroy()
  }
}

const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\n${HOST}${fields}\r\n`

t.test('A. HTTP layer', async (t) => {
  const daemon: Daemon = await startDaemon(t)
  const { remote, local, control } = daemon
  const image: TestImage = await daemon.addImage()

  t.test('1: a response is HTTP/1.1 with server, date and content-length', async (t) => {
    for (const request of [get('/info/'), get(image.url), 'GET /info/ HTTP/1.0\r\n\r\n']) {
      const { version, headers } = await ask(remote, request)
      t.equal(version, 'HTTP/1.1')
      t.match(headers, { server: /^imageio\//, date: /GMT$/, 'content-length': /^\d+$/ })
    }
  })

  t.test('2: an error is one line of plain text', async (t) => {
    for (const path of [
      '/images/unknown',
      '/nowhere',
      '/images/',
      `${image.url}/extents?context=x`,
    ]) {
      const { status, headers, body, text } = await ask(remote, get(path))
      t.ok(status >= 400, `${status}`)
      t.equal(headers['content-type'], 'text/plain; charset=UTF-8')
      t.match(text, /^[^\n]+\n$/)
      t.equal(headers['content-length'], String(body.length))
    }
  })

  t.test('3: an internal failure tells neither path nor errno nor stack', async (t) => {
    const id = await daemon.addTicket({ url: 'file:///no/such/secret-name.img' })
    for (const [method, path, body] of [
      ['GET', `/images/${id}`, ''],
      ['PUT', `/images/${id}`, 'data'],
      ['PATCH', `/images/${id}`, '{"op":"flush"}'],
      ['OPTIONS', `/images/${id}`, ''],
      ['GET', `/images/${id}/extents`, ''],
    ] as const) {
      const reply = await request(remote, method, path, body === '' ? {} : { body })
      t.equal(reply.status, 500, method)
      t.notMatch(reply.text, /secret-name|\/no\/such|ENOENT|errno|\bat .*:\d+|\.[jt]s\b/)
      t.notOk(reply.text.includes(id), 'nor the ticket')
    }
  })

  t.test('4: a path without a route gives 404 on every listener', async (t) => {
    for (const target of [remote, local, control]) {
      t.equal((await ask(target, get('/no/such/path'))).status, 404)
    }
  })

  t.test('5-6: unknown methods give 405', async (t) => {
    t.equal((await ask(remote, `FOO /images/x HTTP/1.1\r\n${HOST}\r\n`)).status, 405)
    t.equal((await ask(remote, `get /info/ HTTP/1.1\r\n${HOST}\r\n`)).status, 405)
    t.equal((await ask(remote, `CONNECT localhost:1 HTTP/1.1\r\n${HOST}\r\n`)).status, 405)
  })

  t.test('7, 9: a method the route lacks gives 405 with Allow', async (t) => {
    const none = 'Content-Length: 0\r\n\r\n'
    const post = await ask(remote, `POST /images/x HTTP/1.1\r\n${HOST}${none}`)
    t.equal(post.status, 405)
    t.match(post.headers['allow'], /GET.*PUT.*PATCH.*OPTIONS|OPTIONS.*GET.*PUT.*PATCH/)
    for (const rest of ['extents', 'checksum', 'checksum/algorithms']) {
      const put = await ask(remote, `PUT /images/x/${rest} HTTP/1.1\r\n${HOST}${none}`)
      t.equal(put.status, 405)
      t.match(put.headers['allow'], /GET/)
      t.notMatch(put.headers['allow'], /PUT/)
    }
    const info = await ask(remote, `PUT /info/ HTTP/1.1\r\n${HOST}${none}`)
    t.equal(info.status, 405)
    t.match(info.headers['allow'], /GET/)
  })

  t.test('8: HEAD answers like GET, without the body', async (t) => {
    for (const path of [
      image.url,
      `${image.url}/extents`,
      `${image.url}/checksum`,
      '/images/x/checksum/algorithms',
      '/info/',
    ]) {
      const wire = await Wire.open(remote)
      const head = await wire.ask(`HEAD ${path} HTTP/1.1\r\n${HOST}\r\n`, { isHead: true })
      const body = await wire.ask(get(path))
      t.equal(head.status, 200)
      t.equal(head.headers['content-length'], body.headers['content-length'])
      t.equal(head.headers['content-type'], body.headers['content-type'])
      t.equal(body.status, 200, 'nothing but the header was sent')
      wire.destroy()
    }
    const denied = await ask(remote, `HEAD /images/unknown HTTP/1.1\r\n${HOST}\r\n`, {
      isHead: true,
    })
    t.equal(denied.status, 403)
    const { headers } = await ask(remote, `HEAD ${image.url} HTTP/1.1\r\n${HOST}\r\n`, {
      isHead: true,
    })
    t.match(headers, { 'content-length': '8192', 'accept-ranges': 'bytes', etag: /^"[^"]+"$/ })
  })

  t.test('10: routes are matched at both ends', async (t) => {
    for (const path of ['/images', '/info', '/info/foo', '/xinfo/', '/', '/infos/']) {
      t.equal((await ask(remote, get(path))).status, 404, path)
    }
    for (const path of [`${image.url}/extentsX`, `${image.url}/extents/`, `${image.url}/x`]) {
      t.ok([403, 404].includes((await ask(remote, get(path))).status), 'not the extents')
    }
  })

  t.test('14-16: who asks for the end of the connection gets it', async (t) => {
    const closing = [
      'GET /info/ HTTP/1.0\r\n\r\n',
      `GET /info/ HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
    ]
    for (const bytes of closing) {
      const wire = await Wire.open(remote)
      t.equal((await wire.ask(bytes)).status, 200)
      t.ok(await wire.isClosedSilently())
    }
    const wire = await Wire.open(remote)
    const kept = 'GET /info/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n'
    t.equal((await wire.ask(kept)).status, 200)
    t.equal((await wire.ask(get('/info/'))).status, 200, 'HTTP/1.0 may keep it')
    wire.destroy()
  })

  t.test(
    '18: the control service accepts requests without Host, data services do not',
    async (t) => {
      const bare = (path: string): string => `GET ${path} HTTP/1.1\r\n\r\n`
      t.equal((await ask(control, bare(`/tickets/${image.id}`))).status, 200)
      for (const [target, path] of [
        [remote, '/info/'],
        [remote, image.url],
        [local, image.url],
      ] as const) {
        const wire = await Wire.open(target)
        const reply = await wire.ask(bare(path))
        t.equal(reply.status, 400)
        t.match(reply.headers['connection'], /close/)
        t.ok(await wire.isClosedSilently())
      }
    },
  )

  t.test('19: pipelined requests are answered in order', async (t) => {
    for (const target of [remote, local]) {
      const wire = await Wire.open(target)
      await wire.send(
        get(image.url, 'Range: bytes=0-9\r\n') + get(image.url, 'Range: bytes=5-7\r\n'),
      )
      t.same((await wire.response()).body, image.bytes().subarray(0, 10))
      t.same((await wire.response()).body, image.bytes().subarray(5, 8))
      const parts = [1, 2, 3, 4, 5, 6, 7, 8]
      const asks = parts.map((part) => get(image.url, `Range: bytes=${part}-${part}\r\n`))
      await wire.send(asks.join(''))
      for (const part of parts) {
        t.same((await wire.response()).body, image.bytes().subarray(part, part + 1))
      }
      wire.destroy()
    }
  })

  t.test('20: errors do not end a connection whose requests are read', async (t) => {
    const wire = await Wire.open(remote)
    const patch = `PATCH ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 4\r\n\r\njunk`
    for (const [bytes, status] of [
      [get('/no/such/path'), 404],
      [`POST /info/ HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`, 405],
      [get(image.url, 'Range: bytes=9000-9001\r\n'), 416],
      [patch, 400],
      [get('/images/'), 400],
      [get('/info/'), 200],
    ] as const) {
      const reply = await wire.ask(bytes)
      t.equal(reply.status, status)
      t.notMatch(reply.headers['connection'] ?? '', /close/)
    }
    wire.destroy()
  })

  t.test('21-22: paths are decoded before they are matched', async (t) => {
    const { file } = image
    await daemon.addTicketFor(file, { uuid: 't1' })
    const plain = await ask(remote, get('/images/t1/extents'))
    t.equal(plain.status, 200)
    for (const path of ['/images/%74%31/extents', '/images%2Ft1/extents', '/images/t1%2Fextents']) {
      const reply = await ask(remote, get(path))
      t.equal(reply.status, 200, path)
      t.equal(reply.text, plain.text)
    }
    const absolute = await ask(remote, get('https://localhost/images/t1/extents'))
    t.equal(absolute.text, plain.text, 'absolute-form')
    t.equal((await ask(remote, get('http://localhost/info/'))).status, 200)
    const broken = await ask(remote, get('/images/%zz'))
    t.ok([400, 404].includes(broken.status), `broken encoding: ${broken.status}`)
  })

  t.test('23-25: queries are decoded, the last value wins, unknown keys are ignored', async (t) => {
    const extents = `${image.url}/extents`
    t.equal((await ask(remote, get(`${extents}?%63ontext=%7aero`))).status, 200)
    t.equal((await ask(remote, get(`${extents}?%63ontext=%7aerox`))).status, 400)
    const put = (query: string): Promise<WireResponse> =>
      ask(remote, `PUT ${image.url}?${query} HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`)
    t.equal((await put('flush=x&flush=n')).status, 200)
    t.equal((await put('flush=n&flush=x')).status, 400)
    t.equal((await put('unknown=1&flush&flush=y&=')).status, 200)
    t.equal((await ask(remote, get(`${image.url}?a=b&&context=foo`))).status, 200)
  })

  t.test('26: Expect: 100-continue invites the body of an authorized upload', async (t) => {
    const wire = await Wire.open(remote)
    const fields = `${HOST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n`
    t.equal((await wire.ask(`PUT ${image.url} HTTP/1.1\r\n${fields}`)).status, 100)
    t.equal((await wire.ask('hello')).status, 200)
    t.equal(image.bytes().toString('latin1', 0, 5), 'hello')
    wire.destroy()
  })

  t.test('27: Expect: 100-continue without a good ticket gets 403 and no invitation', async (t) => {
    for (const [method, path] of [
      ['PUT', '/images/unknown'],
      ['PATCH', '/images/unknown'],
    ] as const) {
      const wire = await Wire.open(remote)
      const fields = `${HOST}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n`
      t.equal((await wire.ask(`${method} ${path} HTTP/1.1\r\n${fields}`)).status, 403)
      t.ok(await wire.isClosedSilently())
    }
  })

  t.test('28: other expectations are ignored', async (t) => {
    t.equal((await ask(remote, get('/info/', 'Expect: foo\r\n'))).status, 200)
    const put = `PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 2\r\nExpect: foo\r\n\r\nok`
    t.equal((await ask(remote, put)).status, 200)
  })
})

t.test('34: SIGTERM ends the daemon with 0 and removes the control socket', async (t) => {
  const daemon = await startDaemon(t)
  const idle = await Wire.open(daemon.remote)
  t.equal((await idle.ask(get('/info/'))).status, 200)
  daemon.process.kill('SIGTERM')
  t.equal(await daemon.exited(5000), 0)
  t.notOk(existsSync(daemon.controlSocket))
  t.ok(await idle.isClosedSilently())
})

t.test('34: SIGTERM lets a running request finish', async (t) => {
  const daemon = await startDaemon(t, { config: { daemon: { shutdown_timeout: 20 } } })
  const image = await daemon.addImage(8)
  const wire = await Wire.open(daemon.remote)
  await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 8\r\n\r\nfour`)
  await daemon.ticketWhen(image.id, 'the upload has begun', (info) => info.active)
  daemon.process.kill('SIGTERM')
  await t.rejects(async () => {
    for (;;) (await Wire.open(daemon.remote)).destroy()
  }, 'no new connections')
  t.equal((await wire.ask('more')).status, 200)
  t.equal(await daemon.exited(5000), 0)
  t.equal(image.bytes().toString(), 'fourmore')
})

t.test('34: SIGTERM cuts a request that does not finish in time', async (t) => {
  const daemon = await startDaemon(t, { config: { daemon: { shutdown_timeout: 1 } } })
  const image = await daemon.addImage(8)
  const wire = await Wire.open(daemon.remote)
  await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 8\r\n\r\nfour`)
  await daemon.ticketWhen(image.id, 'the upload has begun', (info) => info.active)
  daemon.process.kill('SIGTERM')
  t.equal(await daemon.exited(5000), 0)
  wire.destroy()
})
