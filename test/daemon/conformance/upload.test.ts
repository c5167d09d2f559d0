import t from 'tap'
import { randomBytes } from 'node:crypto'
import { statSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'
import { Wire } from '../../support/wire.js'

const GiB = 1024 ** 3
const HOST = 'Host: localhost\r\n'

t.test('E. upload', async (t) => {
  const daemon = await startDaemon(t)
  const { remote } = daemon
  const put = (
    { url }: TestImage,
    body: string | Buffer,
    { range, query = '' }: { range?: string; query?: string } = {},
  ): Promise<Reply> => {
    const headers: Record<string, string> = range === undefined ? {} : { 'content-range': range }
    return request(remote, 'PUT', url + query, { body, headers })
  }

  t.test('80: an upload of unknown length and coding gives 400', async (t) => {
    const image = await daemon.addImage()
    const wire = await Wire.open(remote)
    t.equal((await wire.ask(`PUT ${image.url} HTTP/1.1\r\n${HOST}\r\n`)).status, 400)
    wire.destroy()
  })

  t.test('81: an empty upload', async (t) => {
    const image = await daemon.addImage()
    const before = image.bytes()
    const reply = await put(image, '')
    t.equal(reply.status, 200)
    t.equal(reply.headers['content-length'], '0')
    t.same(image.bytes(), before)
  })

  t.test('82-85: data is written at first, wherever last and complete point', async (t) => {
    for (const [range, body, offset, size] of [
      [undefined, 'hello', 0, 100],
      ['bytes 7-13/20', '7 bytes', 7, 100],
      ['bytes 0-6/*', '7 bytes', 0, 100],
      ['bytes 0-*/*', '7 bytes', 0, 100],
      ['bytes 5-*/100', '7 bytes', 5, 100],
      ['bytes 10-11/*', 'four', 10, 100],
      ['bytes 99-100/*', 'x', 99, 100],
      ['bytes 0-99/100', 'short', 0, 100],
      ['bytes 100-*/*', '', 100, 100],
    ] as const) {
      const image = await daemon.addImage(size)
      const expected = image.bytes()
      expected.write(body, offset)
      const reply = await put(image, body, range === undefined ? {} : { range })
      t.equal(reply.status, 200, range ?? 'no range')
      t.equal(reply.headers['content-length'], '0')
      t.same(image.bytes(), expected)
    }
  })

  t.test('86, 88: past the ticket gives 416, and nothing is written', async (t) => {
    const image = await daemon.addImage(100)
    const before = image.bytes()
    for (const [range, body] of [
      ['bytes 100-101/*', 'x'],
      ['bytes 101-*/*', ''],
      ['bytes 99-100/*', 'xy'],
      ['bytes 0-*/*', 'x'.repeat(101)],
      ['bytes 99999999999999999999-*/*', 'x'],
    ] as const) {
      const reply = await put(image, body, { range })
      t.equal(reply.status, 416, range)
      t.equal(reply.headers['content-range'], 'bytes */100')
      t.same(image.bytes(), before)
    }
    t.equal((await put(image, 'end', { range: 'bytes 97-99/100' })).status, 200)
    t.equal(image.bytes().toString('latin1', 97), 'end')
  })

  t.test('87: a Content-Range that is not understood gives 400', async (t) => {
    const image = await daemon.addImage(200)
    const before = image.bytes()
    for (const range of [
      ...['bytes 13-7/20', 'bytes 0-200/200', 'bytes */200', 'bytes=0-1/*', 'bytes 7-13', ''],
      ...['bytes *-9/*', 'bytes  0-1/*', 'Bytes 0-1/*', 'items 0-1/*', 'bytes 0-1/', 'bytes 0-/9'],
      ...['bytes -1-5/*', 'bytes 0x0-1/*', 'bytes 0-1/*, bytes 2-3/*'],
    ]) {
      const wire = await Wire.open(remote)
      const fields = `${HOST}Content-Range: ${range}\r\nContent-Length: 2\r\n\r\n`
      t.equal((await wire.ask(`PUT ${image.url} HTTP/1.1\r\n${fields}xy`)).status, 400, range)
      wire.destroy()
    }
    t.same(image.bytes(), before)
  })

  t.test('89: flush is y or n', async (t) => {
    const image = await daemon.addImage()
    for (const [query, status] of [
      ['', 200],
      ['?flush=y', 200],
      ['?flush=n', 200],
      ['?flush=', 400],
      ['?flush', 400],
      ['?flush=x', 400],
      ['?flush=Y', 400],
      ['?flush=n&close=n', 200],
    ] as const) {
      t.equal((await put(image, 'x', { query })).status, status, query)
    }
  })

  t.test('92: off every block, the bytes around stay as they are', async (t) => {
    const image = await daemon.addImage(3 * 4096 + 100)
    for (const [offset, size] of [
      [1, 1],
      [511, 2],
      [4095, 2],
      [4096, 4096],
      [100, 4096],
      [4095, 4098],
      [513, 9000],
      [8191, 4197],
      [3 * 4096 + 99, 1],
      [3 * 4096 + 10, 90],
    ] as const) {
      const expected = image.bytes()
      const body = randomBytes(size)
      body.copy(expected, offset)
      const range = `bytes ${offset}-${offset + size - 1}/*`
      t.equal((await put(image, body, { range })).status, 200)
      t.ok(image.bytes().equals(expected), `${size} bytes at ${offset}`)
    }
  })

  t.test('93-94: past the end of the file it grows by just these bytes', async (t) => {
    const image = await daemon.addImage(1000, { size: 20_000 })
    const before = image.bytes()
    t.equal((await put(image, 'y'.repeat(20), { range: 'bytes 990-1009/*' })).status, 200)
    const grown = Buffer.concat([before.subarray(0, 990), Buffer.alloc(20, 'y')])
    t.same(image.bytes(), grown)
    t.equal((await put(image, 'end', { range: 'bytes 10000-10002/*' })).status, 200)
    t.same(image.bytes(), Buffer.concat([grown, Buffer.alloc(10_000 - 1010), Buffer.from('end')]))
  })

  t.test('96: a short body gives 400, what came is written and counted', async (t) => {
    for (const target of [daemon.local, remote]) {
      const image = await daemon.addImage(Buffer.alloc(100, 'x'), { ops: ['write'] })
      const wire = await Wire.open(target)
      await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 50\r\n\r\ntwelve bytes`)
      wire.end()
      if (target === daemon.local) {
        const reply = await wire.response()
        t.equal(reply.status, 400)
        t.match(reply.headers['connection'], /close/)
      } else {
        // TLS ends both directions at once, so nobody is there to read an answer.
        await wire.rest()
      }
      await daemon.ticketWhen(image.id, 'twelve bytes', (info) => info.transferred === 12)
      t.equal(image.bytes().toString(), `twelve bytes${'x'.repeat(88)}`)
    }
  })

  t.test('99: close=y writes, flushes and ends the connection', async (t) => {
    const image = await daemon.addImage()
    for (const [query, status] of [
      ['close=y', 200],
      ['flush=n&close=y', 200],
      ['flush=x&close=y', 400],
    ] as const) {
      const wire = await Wire.open(remote)
      const fields = `${HOST}Content-Length: 5\r\n\r\nhello`
      const reply = await wire.ask(`PUT ${image.url}?${query} HTTP/1.1\r\n${fields}`)
      t.equal(reply.status, status)
      t.match(reply.headers['connection'], /close/)
      t.ok(await wire.isClosedSilently())
    }
    t.equal(image.bytes().toString('latin1', 0, 5), 'hello')
  })

  t.test('100: offsets above 4 GiB', async (t) => {
    const file = join(daemon.dir, 'large')
    writeFileSync(file, '')
    truncateSync(file, 41 * GiB)
    const image = await daemon.addTicketFor(file, { size: 41 * GiB })
    const offset = 40 * GiB + 3
    const range = `bytes ${offset}-${offset + 4}/*`
    t.equal((await put(image, 'hello', { range })).status, 200)
    const headers = { range: `bytes=${offset - 1}-${offset + 5}` }
    const reply = await request(remote, 'GET', image.url, { headers })
    t.equal(reply.text, '\0hello\0')
    t.equal(statSync(file).size, 41 * GiB)
    const handle = await open(file)
    const { buffer } = await handle.read(Buffer.alloc(5), 0, 5, offset)
    await handle.close()
    t.equal(buffer.toString(), 'hello')
  })

  t.test('102: the connection takes the next upload', async (t) => {
    const image = await daemon.addImage(3000)
    const agent = keepAlive(remote)
    const expected = image.bytes()
    for (let offset = 0; offset + 300 <= 3000; offset += 300) {
      const body = randomBytes(300)
      body.copy(expected, offset)
      const headers = { 'content-range': `bytes ${offset}-${offset + 299}/3000` }
      const query = offset < 2700 ? '?flush=n' : ''
      const ask = { agent, headers, body }
      t.equal((await request(remote, 'PUT', image.url + query, ask)).status, 200)
    }
    t.same(image.bytes(), expected)
    await daemon.ticketWhen(image.id, 'one connection', (info) => info.connections === 1)
    agent.destroy()
  })

  t.test('101: neighbours in one block, written at the same time, all arrive', async (t) => {
    const image = await daemon.addImage(64 * 1024)
    const expected = randomBytes(64 * 1024)
    const size = 701
    const count = Math.ceil(expected.length / size)
    const replies = await Promise.all(
      Array.from({ length: count }, (_, index) => {
        const body = expected.subarray(index * size, (index + 1) * size)
        return put(image, body, { range: `bytes ${index * size}-*/*`, query: '?flush=n' })
      }),
    )
    t.ok(replies.every(({ status }) => status === 200))
    t.ok(image.bytes().equals(expected))
  })

  t.test('82: large bodies over TLS, HTTP/2 and the Unix socket', async (t) => {
    const body = randomBytes(20 * 1024 * 1024 + 5)
    const session = await openH2(remote)
    t.teardown(() => session.destroy())
    for (const send of [
      (url: string) => request(remote, 'PUT', url, { body }),
      (url: string) => request(daemon.local, 'PUT', url, { body }),
      (url: string) => requestH2(session, 'PUT', url, { body }),
    ]) {
      const image = await daemon.addImage(Buffer.alloc(0), { size: body.length })
      t.equal((await send(image.url)).status, 200)
      t.ok(image.bytes().equals(body))
    }
    const image = await daemon.addImage(100)
    const headers = { 'content-range': 'bytes 98-*/*' }
    const past = await requestH2(session, 'PUT', image.url, { headers, body: 'xyz' })
    t.equal(past.status, 416)
    t.equal(past.headers['content-range'], 'bytes */100')
  })

  t.test('87: what is wrong is found before the ticket is asked', async (t) => {
    for (const [headers, query] of [
      [{ 'content-range': 'junk' }, ''],
      [{}, '?flush=x'],
    ] as const) {
      const url = `/images/unknown${query}`
      t.equal((await request(remote, 'PUT', url, { headers, body: 'x' })).status, 400)
    }
  })
})

t.test('97: a body that stalls or trickles gives 408 and the end', async (t) => {
  const daemon = await startDaemon(t, { config: { limits: { min_body_rate: 1000 } } })
  for (const isTrickling of [false, true]) {
    const image = await daemon.addImage(Buffer.alloc(100_000, 'x'), { inactivity_timeout: 1 })
    const wire = await Wire.open(daemon.remote)
    const fields = `${HOST}Content-Length: 100000\r\n\r\n`
    await wire.send(`PUT ${image.url} HTTP/1.1\r\n${fields}some`)
    const timer = isTrickling ? setInterval(() => void wire.send('.'), 100) : undefined
    const reply = await wire.response({ timeoutMs: 6000 })
    clearInterval(timer)
    t.equal(reply.status, 408)
    t.match(reply.headers['connection'], /close/)
    wire.destroy()
    await daemon.ticketWhen(image.id, 'the upload has ended', (info) => !info.active)
  }
})
