/** Daemons that are odd or hostile: which of their answers pass, and which fields, either way. */
import t, { type Test } from 'tap'
import { request, type Reply } from '../../support/http.js'
import { startProxy } from '../../support/proxy.js'
import { startFakeDaemon, type Script } from '../../support/fake-daemon.js'
import { until } from '../../support/wait.js'
import { addTicket } from './fake-tickets.js'

const OK = 'HTTP/1.1 200 OK\r\n'

t.test('answers that are odd', async (t) => {
  const proxy = await startProxy(t, { proxy: { allow_http: true } })

  const get = async (fake: { url: string }, headers = {}): Promise<Reply> =>
    request(proxy.remote, 'GET', await addTicket(proxy, fake), { headers })

  /** What a client gets of a daemon that answers with these bytes. */
  const answered = async (t: Test, bytes: string, end = false): Promise<Reply> => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(bytes)
      if (end) socket.end()
    })
    return get(fake)
  }

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

  t.test('Via names who was passed before', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write(`${OK}Content-Length: 0\r\n\r\n`)
    })
    await get(fake, { via: '1.1 other' })
    t.match((await fake.when(1)).headers.get('via'), /^1\.1 other, 1\.1 imageio-[0-9a-f]{16}$/)
  })
})
