/** Daemons that are missing, silent, odd or hostile; and requests that no daemon must hear of. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { request, keepAlive, type Reply } from '../../support/http.js'
import { freePort, type Daemon } from '../../support/daemon.js'
import { testPki } from '../../support/pki.js'
import { startProxy } from '../../support/proxy.js'
import { startFakeDaemon, type Script } from '../../support/fake-daemon.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const MiB = 1024 * 1024
const HOST = 'Host: localhost\r\n'
const OK = 'HTTP/1.1 200 OK\r\n'

const NOTHING_ALLOWED = { proxy: { allowed_daemons: '*.example.com' } }

async function addTicket(proxy: Daemon, fake: { url: string }, fields = {}): Promise<string> {
  const uuid = randomUUID()
  await proxy.addTicket({ uuid, url: `${fake.url}/images/${uuid}`, size: MiB, ...fields })
  return `/images/${uuid}`
}

t.test('the proxy and odd daemons', async (t) => {
  const proxy = await startProxy(t, { proxy: { allow_http: true } })
  /** Gives up soon. */
  const hasty = await startProxy(t, {
    proxy: { allow_http: true, connect_timeout: 1, response_timeout: 1, work_timeout: 1 },
  })

  const get = async (fake: { url: string }, headers = {}, by = proxy): Promise<Reply> =>
    request(by.remote, 'GET', await addTicket(by, fake), { headers })

  /** What a client gets of a daemon that answers with these bytes. */
  const answered = async (t: Parameters<typeof startFakeDaemon>[0], bytes: string, end = false) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(bytes)
      if (end) socket.end()
    })
    return get(fake)
  }

  t.test('224: what the ticket does not allow makes no connection', async (t) => {
    const fake = await startFakeDaemon(t, () => undefined)
    const ask = (method: string, url: string, ask = {}) => request(proxy.remote, method, url, ask)
    for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'OPTIONS']) {
      const body = method === 'PATCH' ? { body: '{"op": "flush"}' } : { body: '' }
      t.equal((await ask(method, `/images/${randomUUID()}`, body)).status, 403, method)
    }
    for (const path of ['/extents', '/checksum', '/checksum/algorithms']) {
      t.equal((await ask('GET', `/images/${randomUUID()}${path}`)).status, 403, path)
    }
    const reads = await addTicket(proxy, fake, { ops: ['read'] })
    t.equal((await ask('PUT', reads, { body: 'x' })).status, 403)
    t.equal((await ask('PATCH', reads, { body: '{"op": "flush"}' })).status, 403)
    const expired = await addTicket(proxy, fake, { timeout: 0 })
    t.equal((await ask('GET', expired)).status, 403)
    const small = await addTicket(proxy, fake, { size: 4096 })
    const beyond = { headers: { 'content-range': 'bytes 4096-4096/*' }, body: 'x' }
    t.equal((await ask('GET', small, { headers: { range: 'bytes=0-4096' } })).status, 416)
    t.equal((await ask('GET', small, { headers: { range: 'bytes=4096-' } })).status, 416)
    t.equal((await ask('PUT', small, beyond)).status, 416)
    const zero = { body: '{"op": "zero", "offset": 1, "size": 4096}' }
    t.match(await ask('PATCH', small, zero), {
      status: 416,
      headers: { 'content-range': 'bytes */4096' },
    })
    t.equal((await ask('GET', `${small}/extents?start=4096`)).status, 416)
    const dirty = await ask('GET', `${small}/extents?context=dirty`)
    t.match(dirty, { status: 404, text: 'the image has no dirty extents\n' })
    t.equal((await ask('GET', small, { headers: { range: 'lines=1' } })).status, 416)
    t.equal((await ask('PUT', small, { headers: { 'content-range': 'x' }, body: 'x' })).status, 400)
    t.equal(fake.connections(), 0)
  })

  t.test('226: a daemon that is not there is 502, and named in the log only', async (t) => {
    const port = await freePort()
    const reply = await get({ url: `http://127.0.0.1:${port}` })
    t.match(reply, { status: 502, text: 'the host of the image cannot be reached\n' })
    const field = `"daemon":"127.0.0.1:${port}"`
    await until('the line in the log', () => proxy.logText().includes(field))
  })

  t.test('a name that does not resolve is 502', async (t) => {
    const own = await startProxy(t, { proxy: { allow_http: true, allowed_daemons: '*:*' } })
    const url = await addTicket(own, { url: 'http://daemon.invalid:54322' })
    t.equal((await request(own.remote, 'GET', url)).status, 502)
  })

  t.test('a silent daemon is 504', async (t) => {
    const fake = await startFakeDaemon(t, () => undefined)
    t.match(await get(fake, {}, hasty), { status: 504, text: /no answer/ })
    const put = await request(hasty.remote, 'PUT', await addTicket(hasty, fake), { body: 'x' })
    t.equal(put.status, 504)
    await until('the connections end', () => fake.open() === 0)
  })

  t.test('a daemon that answers for ever, but nothing, is 502, and cut', async (t) => {
    for (const line of ['100 Continue', '102 Processing', '199 Whatever']) {
      const flood = Buffer.from(`HTTP/1.1 ${line}\r\n\r\n`.repeat(1000))
      const fake = await startFakeDaemon(t, ({ socket }) => {
        const go = (): void => {
          while (!socket.destroyed && socket.write(flood)) continue
        }
        socket.on('drain', go)
        go()
      })
      const url = await addTicket(proxy, fake)
      for (const method of ['PUT', 'GET']) {
        const reply = await request(
          proxy.remote,
          method,
          url,
          method === 'PUT' ? { body: 'x' } : {},
        )
        t.match(reply, { status: 502, text: /more than 16 interim ones/ }, `${method} ${line}`)
        await until('the connection ends', () => fake.open() === 0)
      }
    }
    await until('the log tells', () => proxy.logText().includes('more than 16 interim ones'))
  })

  t.test('a few interim answers are no harm', async (t) => {
    const few = 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(16)
    t.equal((await answered(t, `${few}${OK}Content-Length: 0\r\n\r\n`)).status, 200)
  })

  t.test('a daemon that falls silent in the middle cuts the client', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Content-Length: 100\r\n\r\nhalf`)
    })
    await t.rejects(get(fake, {}, hasty), { message: /aborted|hang up|ECONNRESET/ })
  })

  t.test('a truncated body cuts the client', async (t) => {
    const reply = answered(t, `${OK}Content-Length: 100\r\n\r\nhalf`, true)
    await t.rejects(reply, { message: /aborted|hang up|ECONNRESET/ })
    const chunked = answered(t, `${OK}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`, true)
    await t.rejects(chunked, { message: /aborted|hang up|ECONNRESET/ })
  })

  t.test('more bytes than announced are not the next answer', async (t) => {
    const evil = `${OK}Content-Length: 4\r\n\r\nevil`
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Content-Length: 4\r\n\r\ngood${evil}`)
    })
    const url = await addTicket(proxy, fake)
    for (let count = 0; count < 3; count++) {
      const { body } = await request(proxy.remote, 'GET', url)
      t.equal(body.toString(), 'good')
    }
  })

  t.test('what is not HTTP, or frames a body twice, is 502', async (t) => {
    for (const bytes of [
      'SSH-2.0-OpenSSH\r\n\r\n',
      `${OK}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n`,
      `${OK}Content-Length: 4\r\nContent-Length: 5\r\n\r\nevil`,
      `${OK}Content-Length: x\r\n\r\nevil`,
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
    ]) {
      t.equal((await answered(t, bytes)).status, 502, JSON.stringify(bytes))
    }
  })

  t.test('a body that ends with the connection is none', async (t) => {
    t.equal((await answered(t, `${OK}Connection: close\r\n\r\nhalf`, true)).status, 502)
    t.equal((await answered(t, 'HTTP/1.0 200 OK\r\n\r\nhalf', true)).status, 502)
  })

  t.test('a redirect is followed by nobody', async (t) => {
    const elsewhere = await startFakeDaemon(t, () => undefined)
    const location = `Location: ${elsewhere.url}/images/x\r\nContent-Length: 0\r\n\r\n`
    for (const status of ['301 Moved', '302 Found', '307 Temporary', '308 Permanent']) {
      const reply = await answered(t, `HTTP/1.1 ${status}\r\n${location}`)
      t.equal(reply.status, 502, status)
      t.equal(reply.headers['location'], undefined)
    }
    t.equal(elsewhere.connections(), 0)
  })

  t.test('fields of a hop end there, and unknown ones do not pass', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(
        `${OK}Content-Length: 2\r\nConnection: keep-alive, x-secret\r\nKeep-Alive: timeout=9\r\n` +
          'Set-Cookie: a=b\r\nX-Secret: s\r\nProxy-Authenticate: Basic\r\n' +
          'Content-Disposition: attachment; filename=a\r\nAccess-Control-Allow-Origin: evil\r\n\r\nok',
      )
    })
    const { headers } = await get(fake, {
      connection: 'close, x-hop',
      'x-hop': 'x',
      authorization: 'Bearer secret',
      cookie: 'a=b',
      'x-forwarded-for': '1.2.3.4',
      accept: 'a/b',
    })
    t.equal(headers['content-disposition'], 'attachment; filename=a')
    for (const name of ['keep-alive', 'set-cookie', 'x-secret', 'proxy-authenticate']) {
      t.equal(headers[name], undefined, name)
    }
    t.equal(headers['access-control-allow-origin'], undefined)
    const { headers: sent } = await fake.when(1)
    t.strictSame([...sent.keys()].sort(), ['accept', 'connection', 'host', 'via'])
    t.equal(sent.get('host'), `127.0.0.1:${fake.port}`)
  })

  t.test('Connection cannot drop a field that was checked, either way', async (t) => {
    const range = 'Content-Range: bytes 1-2/4\r\n'
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'PUT') socket.write(`${OK}Content-Length: 0\r\n\r\n`)
      else {
        const fields = `Connection: etag, content-range, content-length\r\nETag: "x"\r\n${range}`
        socket.write(`HTTP/1.1 206 Part\r\n${fields}Content-Length: 2\r\n\r\nok`)
      }
    })
    const url = await addTicket(proxy, fake)
    const fields = {
      'content-range': 'bytes 4096-4096/*',
      'content-digest': 'sha-256=:LXEWQrcmsEQBYnyp2lCivuCo5ndcZNSm+5cvEMt9U8g=:',
      'if-match': '"x"',
    }
    const connection = Object.keys(fields).join(', ')
    await request(proxy.remote, 'PUT', url, { headers: { ...fields, connection }, body: 'x' })
    const put = await fake.when(1)
    for (const [name, value] of Object.entries(fields)) t.equal(put.headers.get(name), value, name)
    const conditions = { range: 'bytes=1-2', 'if-range': '"x"' }
    const get = await request(proxy.remote, 'GET', url, {
      headers: { ...conditions, connection: 'range, if-range' },
    })
    t.match((await fake.when(2)).headers, new Map(Object.entries(conditions)))
    t.match(get, { status: 206, headers: { etag: '"x"', 'content-range': 'bytes 1-2/4' } })
  })

  t.test('text and status of an error pass, with its range', async (t) => {
    const reply = await answered(
      t,
      'HTTP/1.1 416 No\r\nContent-Range: bytes */7\r\nContent-Type: text/plain\r\n' +
        'Content-Length: 5\r\n\r\nwhy?\n',
    )
    t.match(reply, { status: 416, text: 'why?\n', headers: { 'content-range': 'bytes */7' } })
  })

  t.test('more of the image than the ticket allows is asked for again, or cut', async (t) => {
    const large: Script = ({ socket, headers }) => {
      const range = headers.get('range')
      if (range === undefined) socket.write(`${OK}Content-Length: 10\r\n\r\n0123456789`)
      else {
        socket.write(
          `HTTP/1.1 206 Part\r\nContent-Range: bytes 0-3/10\r\nContent-Length: 4\r\n\r\n0123`,
        )
      }
    }
    const fake = await startFakeDaemon(t, large)
    const url = await addTicket(proxy, fake, { size: 4 })
    const reply = await request(proxy.remote, 'GET', url)
    t.match(reply, { status: 200, text: '0123', headers: { 'content-length': '4' } })
    t.equal(reply.headers['content-range'], undefined)
    t.equal((await fake.when(2)).headers.get('range'), 'bytes=0-3')
    const sneaky = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n`)
    })
    const cut = await addTicket(proxy, sneaky, { size: 4 })
    const answer = await request(proxy.remote, 'GET', cut).catch(() => undefined)
    t.not(answer?.status, 200)
  })

  t.test('229: a kept connection that was closed is not missed', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }, count) => {
      // The second request meets a connection that ends without an answer.
      if (count === 2) socket.destroy()
      else socket.write(`${OK}Content-Length: 2\r\n\r\nok`)
    })
    const url = await addTicket(proxy, fake)
    for (let count = 0; count < 2; count++) {
      t.equal((await request(proxy.remote, 'GET', url)).text, 'ok')
    }
    t.equal(fake.asked.length, 3)
    t.equal(fake.connections(), 2)
  })

  t.test(
    'a fresh connection that breaks is not tried again, nor is a body sent twice',
    async (t) => {
      const breaks = await startFakeDaemon(t, ({ socket }) => socket.destroy())
      t.equal((await get(breaks)).status, 502)
      t.equal(breaks.connections(), 1)
      const fake = await startFakeDaemon(t, ({ socket }, count) => {
        if (count === 2) socket.destroy()
        else socket.write(`${OK}Content-Length: 0\r\n\r\n`)
      })
      const url = await addTicket(proxy, fake)
      t.equal((await request(proxy.remote, 'PUT', url, { body: 'a' })).status, 200)
      t.equal((await request(proxy.remote, 'PUT', url, { body: 'b' })).status, 502)
      t.equal(fake.asked.length, 2)
    },
  )

  t.test('connections are kept, and not shared between tickets', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Content-Length: 2\r\n\r\nok`)
    })
    const [one, other] = [await addTicket(proxy, fake), await addTicket(proxy, fake)]
    for (let count = 0; count < 3; count++) await request(proxy.remote, 'GET', one)
    t.equal(fake.connections(), 1)
    await request(proxy.remote, 'GET', other)
    t.equal(fake.connections(), 2)
    await proxy.controlRequest('DELETE', one.replace('images', 'tickets'))
    await until('its connection ends with the ticket', () => fake.open() === 1)
  })

  t.test('the first byte is on its way while the body still comes', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'GET') socket.write(`${OK}Content-Length: 8\r\n\r\nhalf`)
    })
    const url = await addTicket(proxy, fake)
    const up = await Wire.open(proxy.remote)
    t.teardown(() => up.destroy())
    await up.send(`PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: 8\r\n\r\nhalf`)
    const put = await fake.when(1)
    await until('half the body is there', () => put.body().toString() === 'half')
    await up.send('more')
    await until('the rest is there', () => put.body().toString() === 'halfmore')
    put.socket.write(`${OK}Content-Length: 0\r\n\r\n`)
    t.equal((await up.response()).status, 200)

    const down = await Wire.open(proxy.remote)
    t.teardown(() => down.destroy())
    await down.send(`GET ${url} HTTP/1.1\r\n${HOST}\r\n`)
    await until('half the body is here', () => down.peek().includes('half'))
    ;(await fake.when(2)).socket.write('more')
    t.match((await down.response()).text, 'halfmore')
  })

  t.test('Expect: the daemon refuses before the client sends', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket, headers }) => {
      socket.write(
        headers.get('expect') === '100-continue'
          ? 'HTTP/1.1 507 Full\r\nContent-Length: 5\r\n\r\nfull\n'
          : `${OK}Content-Length: 0\r\n\r\n`,
      )
    })
    const url = await addTicket(proxy, fake)
    const wire = await Wire.open(proxy.remote)
    t.teardown(() => wire.destroy())
    const head = `PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: 8\r\nExpect: 100-continue\r\n\r\n`
    const { status, text } = await wire.ask(head)
    t.match({ status, text }, { status: 507, text: 'full\n' })
    t.equal((await fake.when(1)).body().length, 0)
    // The daemon still waits for eight bytes there: they must not be the next request's.
    await request(proxy.remote, 'PUT', url, { body: '' })
    t.equal(fake.connections(), 2)
  })

  t.test('Expect: the daemon invites, and so the proxy does', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write('HTTP/1.1 100 Continue\r\n\r\n')
    })
    const url = await addTicket(proxy, fake)
    const wire = await Wire.open(proxy.remote)
    t.teardown(() => wire.destroy())
    const head = `PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n`
    t.equal((await wire.ask(head)).status, 100)
    await wire.send('body')
    const put = await fake.when(1)
    await until('the body is there', () => put.body().toString() === 'body')
    put.socket.write(`${OK}Content-Length: 0\r\n\r\n`)
    t.equal((await wire.response()).status, 200)
  })

  t.test('an answer before the end of the body reaches the client', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write('HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\ncanceled\n')
    })
    const url = await addTicket(proxy, fake)
    const wire = await Wire.open(proxy.remote)
    t.teardown(() => wire.destroy())
    await wire.send(`PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: ${MiB}\r\n\r\nstart`)
    const { status, text, headers } = await wire.response()
    t.match({ status, text }, { status: 403, text: 'canceled\n' })
    t.equal(headers['connection'], 'close')
    await until('the connection that waits for a body is not kept', () => fake.open() === 0)
  })

  t.test('a ticket removed here ends the connection to the daemon, and the client', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'GET') socket.write(`${OK}Content-Length: 100\r\n\r\nhalf`)
    })
    const url = await addTicket(proxy, fake)
    const wire = await Wire.open(proxy.remote)
    t.teardown(() => wire.destroy())
    await wire.send(`PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: ${MiB}\r\n\r\nstart`)
    await fake.when(1)
    const id = url.slice('/images/'.length)
    t.match(await proxy.ticket(id), { active: true, connections: 1 })
    t.equal((await proxy.controlRequest('DELETE', `/tickets/${id}`)).status, 204)
    t.equal((await wire.response()).status, 403)
    await until('the connection to the daemon ends', () => fake.open() === 0)
  })

  t.test('a client that leaves ends the connection to the daemon', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'GET') socket.write(`${OK}Content-Length: 100\r\n\r\nhalf`)
    })
    const url = await addTicket(proxy, fake)
    for (const request of [
      `GET ${url} HTTP/1.1\r\n${HOST}\r\n`,
      `PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: 99\r\n\r\nhalf`,
    ]) {
      const before = fake.asked.length
      const wire = await Wire.open(proxy.remote)
      await wire.send(request)
      await fake.when(before + 1)
      wire.destroy()
      await until('the connection to the daemon ends', () => fake.open() === 0)
    }
  })

  t.test('a client that leaves behind its whole upload ends nothing at once', async (t) => {
    const patient = await startProxy(t, { proxy: { allow_http: true, response_timeout: 1 } })
    const fake = await startFakeDaemon(t, () => undefined)
    const url = await addTicket(patient, fake)
    const wire = await Wire.open(patient.remote)
    await wire.send(`PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: 4\r\n\r\nbody`)
    const put = await fake.when(1)
    await until('the body is there', () => put.body().toString() === 'body')
    wire.destroy()
    await until('the daemon is given up', () => fake.open() === 0)
    await until('the log tells', () => patient.logText().includes('ERR_DAEMON_TIMEOUT'))
    await until('the ticket is idle', async () => !(await patient.ticket(url.slice(8))).active)
  })

  t.test('an old daemon that has no OPTIONS can read and write', async (t) => {
    for (const status of ['405 No', '204 Empty']) {
      const fake = await startFakeDaemon(t, ({ socket }) => {
        socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`)
      })
      const reply = await request(proxy.remote, 'OPTIONS', await addTicket(proxy, fake))
      t.match(reply, { status: 200, json: { features: [], max_readers: 1, max_writers: 1 } })
    }
  })

  t.test('228: an old daemon is written zeroes, and all its image is data', async (t) => {
    const fake = await startFakeDaemon(t, (asked) => {
      const { socket, method, path } = asked
      if (method === 'PATCH' || method === 'OPTIONS' || path.includes('/extents')) {
        socket.write('HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n')
      } else if (method === 'GET') {
        socket.write(`${OK}Content-Length: 5000\r\n\r\nstart`)
      } else {
        void until('the zeroes are there', () => asked.body().length === MiB - 8192).then(() =>
          socket.write(`${OK}Content-Length: 0\r\n\r\n`),
        )
      }
    })
    const url = await addTicket(proxy, fake, { ops: ['write'], dirty: true })
    const zero = { body: `{"op": "zero", "offset": 4096, "size": ${MiB - 8192}, "flush": true}` }
    t.equal((await request(proxy.remote, 'PATCH', url, zero)).status, 200)
    const put = fake.asked.find(({ method }) => method === 'PUT')!
    t.equal(put.headers.get('content-range'), `bytes 4096-${MiB - 4097}/*`)
    t.ok(put.body().equals(Buffer.alloc(MiB - 8192)))
    t.equal((await proxy.ticket(url.slice(8))).transferred, MiB - 8192)
    const flush = await request(proxy.remote, 'PATCH', url, { body: '{"op": "flush"}' })
    t.equal(flush.status, 200)
    const extents = await request(proxy.remote, 'GET', `${url}/extents`)
    t.strictSame(extents.json, [{ start: 0, length: 5000, zero: false, hole: false }])
    const dirty = await request(proxy.remote, 'GET', `${url}/extents?context=dirty`)
    t.equal(dirty.status, 405)
  })

  t.test('a checksum of more than the ticket has is refused', async (t) => {
    const members = (size: number): string => {
      const json = JSON.stringify({ features: ['checksum'], size })
      return `${OK}Content-Length: ${json.length}\r\n\r\n${json}`
    }
    const old = 'HTTP/1.1 204 Empty\r\n\r\n'
    const whole = `${OK}Content-Length: ${MiB + 1}\r\n\r\n`
    const part = `HTTP/1.1 206 Part\r\nContent-Range: bytes ${MiB}-${MiB}/*\r\n`
    const none = 'HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n'
    for (const [options, range, status] of [
      [members(MiB), '', 200],
      [members(1), '', 200],
      [members(MiB + 1), '', 403],
      [old, none, 200],
      [old, `${part}Content-Length: 1\r\n\r\nx`, 403],
      [old, whole, 403],
      [old, `${OK}Content-Length: 1\r\n\r\nx`, 200],
    ] as const) {
      const fake = await startFakeDaemon(t, ({ socket, method, path }) => {
        if (path.includes('/checksum')) socket.write(`${OK}Content-Length: 2\r\n\r\n{}`)
        else socket.write(method === 'OPTIONS' ? options : range)
      })
      const url = await addTicket(proxy, fake)
      for (const query of ['', '?manifest=y']) {
        const reply = await request(proxy.remote, 'GET', `${url}/checksum${query}`)
        t.equal(reply.status, status, `${options} ${range}`)
        if (status === 403) t.match(reply.text, `has only ${MiB} bytes`)
      }
      const isAsked = fake.asked.some(({ path }) => path.includes('/checksum'))
      t.equal(isAsked, status === 200)
      const asked = fake.asked.find(({ method, path }) => method === 'GET' && path === url)
      t.equal(asked?.headers.get('range'), options === old ? `bytes=${MiB}-${MiB}` : undefined)
    }
  })

  t.test('PATCH that is refused is done otherwise only for a daemon without it', async (t) => {
    const features = '{"features": ["zero", "flush"]}'
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'PATCH') socket.write('HTTP/1.1 405 No\r\nContent-Length: 6\r\n\r\nnever\n')
      else socket.write(`${OK}Content-Length: ${features.length}\r\n\r\n${features}`)
    })
    const url = await addTicket(proxy, fake)
    for (const body of ['{"op": "flush"}', '{"op": "zero", "size": 10}']) {
      t.match(await request(proxy.remote, 'PATCH', url, { body }), { status: 405, text: 'never\n' })
    }
    t.notOk(fake.asked.some(({ method }) => method === 'PUT'))
  })

  t.test('what was not flushed is not said to be', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'PUT') socket.write(`${OK}Content-Length: 0\r\n\r\n`)
      else socket.write('HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n')
    })
    const url = await addTicket(proxy, fake)
    const flush = { body: '{"op": "flush"}' }
    t.equal((await request(proxy.remote, 'PATCH', url, flush)).status, 200)
    t.equal((await request(proxy.remote, 'PUT', `${url}?flush=n`, { body: '' })).status, 200)
    t.equal((await request(proxy.remote, 'PATCH', url, flush)).status, 405)
  })

  t.test('a ticket that leads back here is a loop, and ends at once', async (t) => {
    for (const usesLocalSocket of [false, true]) {
      const uuid = randomUUID()
      const trusted = { ca_file: testPki('proxy').caFile }
      const looping = await startProxy(t, { backend_http: trusted }, usesLocalSocket)
      await looping.addTicket({ uuid, url: `${looping.url}/images/${uuid}` })
      for (const method of ['GET', 'PUT', 'OPTIONS']) {
        const body = method === 'PUT' ? { body: 'x' } : {}
        const reply = await request(looping.remote, method, `/images/${uuid}`, body)
        t.equal(reply.status, 508, `${method} ${reply.text}`)
      }
    }
  })

  t.test('Via names who was passed before', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Content-Length: 0\r\n\r\n`)
    })
    await get(fake, { via: '1.1 other' })
    t.match((await fake.when(1)).headers.get('via'), /^1\.1 other, 1\.1 imageio-[0-9a-f]{16}$/)
  })

  t.test('a daemon without features offers none', async (t) => {
    const text = '{"features": ["extents", "telepathy"], "max_readers": 3}'
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Allow: OPTIONS,GET\r\nContent-Length: ${text.length}\r\n\r\n${text}`)
    })
    const agent = keepAlive(proxy.remote)
    t.teardown(() => agent.destroy())
    const reply = await request(proxy.remote, 'OPTIONS', await addTicket(proxy, fake), { agent })
    t.match(reply.json, { features: ['extents'], max_readers: 3, max_writers: 1 })
    t.equal(reply.headers['allow'], 'OPTIONS,GET')
  })
})

t.test('one ticket does not take all connections', async (t) => {
  const proxy = await startProxy(t, {
    proxy: { allow_http: true, connect_timeout: 1, max_connections_per_ticket: 2 },
  })
  const fake = await startFakeDaemon(t, ({ socket }, count) => {
    // The first two take their time.
    if (count > 2) socket.write(`${OK}Content-Length: 2\r\n\r\nok`)
  })
  const [one, other] = [await addTicket(proxy, fake), await addTicket(proxy, fake)]
  const get = (url: string): Promise<Reply> => request(proxy.remote, 'GET', url)
  const held = [get(one), get(one)]
  const two = await Promise.all([fake.when(1), fake.when(2)])
  const { status, headers, text } = await get(one)
  t.match({ status, text }, { status: 503, text: /too many requests/ })
  t.equal(headers['retry-after'], '10')
  t.equal(fake.connections(), 2)
  t.equal((await get(other)).status, 200)
  for (const { socket } of two) socket.write(`${OK}Content-Length: 0\r\n\r\n`)
  for (const reply of await Promise.all(held)) t.equal(reply.status, 200)
  const many = await Promise.all(Array.from({ length: 10 }, () => get(one)))
  t.ok(many.every((reply) => reply.status === 200))
  t.equal(fake.connections(), 3)
})

t.test('the allow-list of daemons', async (t) => {
  const proxy = await startProxy(t, NOTHING_ALLOWED)
  const add = async (url: string): Promise<Reply> => {
    const uuid = randomUUID()
    const ticket = { uuid, size: 1, ops: ['read'], timeout: 9, url: `${url}/images/${uuid}` }
    return proxy.controlRequest('PUT', `/tickets/${uuid}`, ticket)
  }
  t.equal((await add('https://host7.example.com:54322')).status, 200)
  t.match(await add('https://host7.example.org:54322'), { status: 400, text: /allowed_daemons/ })
  t.equal((await add('https://host7.example.com:22')).status, 400)
  t.equal((await add('http://host7.example.com:54322')).status, 400, 'plain HTTP is off')
  t.equal((await add('file:///etc')).status, 400)
})
