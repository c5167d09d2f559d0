/** Connections to daemons: which are made at all, which are kept, and what ends them. */
import t from 'tap'
import { randomUUID } from 'node:crypto'
import { MiB } from '../../../core/units.js'
import { request, type Reply } from '../../support/http.js'
import { freePort } from '../../support/daemon.js'
import { testPki } from '../../support/pki.js'
import { startProxy } from '../../support/proxy.js'
import { startFakeDaemon } from '../../support/fake-daemon.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { addTicket } from './fake-tickets.js'

const HOST = 'Host: localhost\r\n'
const OK = 'HTTP/1.1 200 OK\r\n'

const NOTHING_ALLOWED = { proxy: { allowed_daemons: '*.example.com' } }

t.test('connections to daemons', async (t) => {
  const proxy = await startProxy(t, { proxy: { allow_http: true } })
  /** Gives up soon. */
  const hasty = await startProxy(t, {
    proxy: { allow_http: true, connect_timeout: 1, response_timeout: 1, work_timeout: 1 },
  })

  const get = async (fake: { url: string }, by = proxy): Promise<Reply> =>
    request(by.remote, 'GET', await addTicket(by, fake))

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
    t.equal((await ask('GET', `${small}/extents?start=4096`)).status, 416)
    const dirty = await ask('GET', `${small}/extents?context=dirty`)
    t.match(dirty, { status: 404, text: 'the image has no dirty extents\n' })
    t.equal((await ask('GET', small, { headers: { range: 'lines=1' } })).status, 416)
    t.equal((await ask('PUT', small, { headers: { 'content-range': 'x' }, body: 'x' })).status, 400)
    t.equal(fake.connections(), 0)
    t.equal((await ask('PUT', small, beyond)).status, 416)
    t.equal(fake.connections(), 1, 'but that something is missing of an image')
    const zero = { body: '{"op": "zero", "offset": 1, "size": 4096}' }
    t.match(await ask('PATCH', small, zero), {
      status: 416,
      headers: { 'content-range': 'bytes */4096' },
    })
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

  t.test('a silent daemon is 504', async (t) => {
    const fake = await startFakeDaemon(t, () => undefined)
    t.match(await get(fake, hasty), { status: 504, text: /no answer/ })
    const put = await request(hasty.remote, 'PUT', await addTicket(hasty, fake), { body: 'x' })
    t.equal(put.status, 504)
    await until('the connections end', () => fake.open() === 0)
  })

  t.test('a daemon that falls silent in the middle cuts the client', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Content-Length: 100\r\n\r\nhalf`)
    })
    await t.rejects(get(fake, hasty), { message: /aborted|hang up|ECONNRESET/ })
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
