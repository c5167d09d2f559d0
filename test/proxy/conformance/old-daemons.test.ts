/** Daemons that can less than ours: what the proxy does in their place, and what it refuses to. */
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { request, keepAlive } from '../../support/http.js'
import { startProxy } from '../../support/proxy.js'
import { startFakeDaemon } from '../../support/fake-daemon.js'
import { until } from '../../support/wait.js'
import { addTicket } from './fake-tickets.js'

const OK = 'HTTP/1.1 200 OK\r\n'

t.test('daemons that can less', async (t) => {
  const proxy = await startProxy(t, { proxy: { allow_http: true } })

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
