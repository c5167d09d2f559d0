import t from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'
import { Wire } from '../../support/wire.js'

const MiB = 1024 * 1024

t.test('D. download', async (t) => {
  const daemon = await startDaemon(t)
  const { remote } = daemon
  const image = await daemon.addImage(8192)
  const content = image.bytes()
  const get = ({ url }: TestImage, headers: Record<string, string> = {}): Promise<Reply> =>
    request(remote, 'GET', url, { headers })
  const range = (value: string, from = image): Promise<Reply> => get(from, { range: value })

  t.test('55: the whole image', async (t) => {
    const reply = await get(image)
    t.equal(reply.status, 200)
    t.same(reply.body, content)
    t.match(reply.headers, {
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment',
      'content-length': '8192',
      'accept-ranges': 'bytes',
      etag: /^"[^"]+"$/,
    })
    t.notOk('content-range' in reply.headers)
    t.notOk('transfer-encoding' in reply.headers)
  })

  t.test('56: the file name of the ticket is offered', async (t) => {
    const named = await daemon.addImage(10, { filename: 'disk.qcow2' })
    const { headers } = await get(named)
    t.match(headers['content-disposition'], /^attachment; filename="?disk\.qcow2"?$/)
    const foreign = await daemon.addImage(10, { filename: 'Größe "1".raw' })
    const disposition = (await get(foreign)).headers['content-disposition'] ?? ''
    t.match(disposition, /^attachment; filename=/)
    t.match(disposition, /filename\*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22\.raw/i)
    t.match(await daemon.ticket(foreign.id), { filename: 'Größe "1".raw' })
  })

  t.test('57: a file name cannot add header fields', async (t) => {
    for (const filename of ['a\r\nx-injected: 1', 'a\nb', 'a\0b', 'a\x7fb', 'a\tb']) {
      const uuid = `n-${filename.length}`
      const ticket = { uuid, size: 1, ops: ['read'], timeout: 9, url: 'file:///x', filename }
      t.equal((await daemon.controlRequest('PUT', `/tickets/${uuid}`, ticket)).status, 400)
    }
  })

  t.test('58: a range gives 206 with exactly these bytes', async (t) => {
    const reply = await range('bytes=0-1023')
    t.equal(reply.status, 206)
    t.same(reply.body, content.subarray(0, 1024))
    t.match(reply.headers, { 'content-range': 'bytes 0-1023/8192', 'content-length': '1024' })
  })

  t.test('59-61: ranges off every block, to the end, of one byte', async (t) => {
    for (const [value, first, end] of [
      ['bytes=513-1023', 513, 1024],
      ['bytes=0-0', 0, 1],
      ['bytes=8191-8191', 8191, 8192],
      ['bytes=8190-', 8190, 8192],
      ['bytes=0-', 0, 8192],
      ['bytes=4095-4096', 4095, 4097],
      ['bytes=1-8190', 1, 8191],
      ['bytes=000-0001', 0, 2],
    ] as const) {
      const reply = await range(value)
      t.equal(reply.status, 206, value)
      t.same(reply.body, content.subarray(first, end))
      t.equal(reply.headers['content-range'], `bytes ${first}-${end - 1}/8192`)
    }
  })

  t.test('62: a suffix range gives the last bytes', async (t) => {
    const reply = await range('bytes=-10')
    t.equal(reply.status, 206)
    t.same(reply.body, content.subarray(-10))
    t.equal(reply.headers['content-range'], 'bytes 8182-8191/8192')
    const all = await range('bytes=-100000')
    t.equal(all.status, 206)
    t.same(all.body, content)
    t.equal((await range('bytes=-0')).status, 416)
  })

  t.test('63: a range that is not understood gives 416, never the whole image', async (t) => {
    const wire = await Wire.open(remote)
    for (const value of [
      ...['bytes=-', 'bytes=5-4', 'bytes=0-1,2-3', 'BYTES=0-1', 'bytes =0-1', 'cats=0-1', ''],
      ...['bytes=0 -1', 'bytes=', '0-1', 'bytes=a-b', 'bytes=+0-1', 'bytes=0x0-1', 'bytes= 0-1'],
      ...['bytes=0-1,', 'bytes=-5-9', 'bytes=--1'],
    ]) {
      const fields = `Host: localhost\r\nRange: ${value}\r\n\r\n`
      const reply = await wire.ask(`GET ${image.url} HTTP/1.1\r\n${fields}`)
      t.equal(reply.status, 416, JSON.stringify(value))
      t.notOk('content-range' in reply.headers)
      t.notOk('content-disposition' in reply.headers)
    }
    wire.destroy()
  })

  t.test('64-67: a range past the end gives 416 with the size', async (t) => {
    const small = await daemon.addImage(1000, { size: 2000 })
    for (const [from, value, size] of [
      [image, 'bytes=0-8192', 8192],
      [image, 'bytes=8192-8192', 8192],
      [image, 'bytes=8192-', 8192],
      [image, 'bytes=8193-', 8192],
      [image, 'bytes=99999999999999999999-', 8192],
      [image, 'bytes=0-99999999999999999999', 8192],
      [small, 'bytes=0-1999', 1000],
      [small, 'bytes=0-2000', 2000],
      [small, 'bytes=1000-1001', 1000],
      [small, 'bytes=1000-', 1000],
    ] as const) {
      const reply = await range(value, from)
      t.equal(reply.status, 416, value)
      t.equal(reply.headers['content-range'], `bytes */${size}`, value)
      t.notOk('content-disposition' in reply.headers)
    }
  })

  t.test('68-69: an image smaller than its ticket is sent as it is', async (t) => {
    const small = await daemon.addImage(1000, { size: 2000 })
    const whole = await get(small)
    t.equal(whole.status, 200)
    t.same(whole.body, small.bytes())
    const rest = await range('bytes=900-', small)
    t.equal(rest.status, 206)
    t.same(rest.body, small.bytes().subarray(900))
    t.equal(rest.headers['content-range'], 'bytes 900-999/2000')
  })

  t.test('70: a ticket smaller than its image hides the rest', async (t) => {
    const large = await daemon.addImage(8192, { size: 5001 })
    const whole = await get(large)
    t.equal(whole.status, 200)
    t.same(whole.body, large.bytes().subarray(0, 5001))
    t.same((await range('bytes=5000-', large)).body, large.bytes().subarray(5000, 5001))
  })

  t.test('71: an empty image', async (t) => {
    const empty = await daemon.addImage(0, { size: 100 })
    const reply = await get(empty)
    t.equal(reply.status, 200)
    t.equal(reply.headers['content-length'], '0')
    t.equal((await range('bytes=0-', empty)).headers['content-range'], 'bytes */0')
    t.equal((await get(await daemon.addImage(0))).status, 200, 'and an empty ticket')
  })

  t.test('72: holes read as zeroes', async (t) => {
    const file = join(daemon.dir, 'sparse')
    writeFileSync(file, '')
    truncateSync(file, 20 * MiB)
    const handle = await open(file, 'r+')
    await handle.write('middle', 10 * MiB)
    await handle.close()
    const reply = await get(await daemon.addTicketFor(file, { size: 20 * MiB }))
    const expected = Buffer.alloc(20 * MiB)
    expected.write('middle', 10 * MiB)
    t.ok(reply.body.equals(expected))
  })

  t.test('73-75: close=y ends the connection, and nothing else does', async (t) => {
    const ask = (wire: Wire, query: string, fields = '') =>
      wire.ask(`GET ${image.url}?${query} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`)
    for (const fields of ['', 'Range: junk\r\n', 'Range: bytes=0-8192\r\n']) {
      const wire = await Wire.open(remote)
      const reply = await ask(wire, 'close=y', fields)
      t.equal(reply.status, fields === '' ? 200 : 416)
      t.match(reply.headers['connection'], /close/)
      t.ok(await wire.isClosedSilently())
    }
    const wire = await Wire.open(remote)
    for (const query of ['close=Y', 'close=n', 'close', 'close=y&close=n']) {
      const reply = await ask(wire, query)
      t.equal(reply.status, 200, query)
      t.notMatch(reply.headers['connection'] ?? '', /close/)
    }
    wire.destroy()
  })

  t.test('76: an image that shrinks ends the download early, without padding', async (t) => {
    const large = await daemon.addImage(Buffer.alloc(64 * MiB, 'x'), { ops: ['read'] })
    const wire = await Wire.open(remote, { isReading: false })
    await wire.send(`GET ${large.url} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    // Before that it would be an error with a status, and the connection goes on.
    const hasBegun = (info: { transferred?: number }): boolean => (info.transferred ?? 0) > 0
    await daemon.ticketWhen(large.id, 'bytes are on their way', hasBegun)
    truncateSync(large.file, 4096)
    wire.read()
    const received = await wire.rest()
    const body = received.subarray(received.indexOf('\r\n\r\n') + 4)
    t.match(received.toString('latin1', 0, 400), /content-length: 67108864/i)
    t.ok(body.length < 64 * MiB, `${body.length} bytes`)
    t.ok(body.equals(Buffer.alloc(body.length, 'x')), 'all of them from the image')
  })

  t.test('77: a client that goes away leaves nothing behind', async (t) => {
    const large = await daemon.addImage(Buffer.alloc(64 * MiB), { ops: ['read'] })
    const wire = await Wire.open(remote, { isReading: false })
    await wire.send(`GET ${large.url} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    await daemon.ticketWhen(large.id, 'the download has begun', (info) => info.active)
    wire.destroy()
    const isGone = (info: { active: boolean; connections: number }): boolean =>
      !info.active && info.connections === 0
    const info = await daemon.ticketWhen(large.id, 'nothing is left', isGone)
    t.ok((info.transferred ?? 0) < 64 * MiB)
    t.notOk(await daemon.holds(large.file))
    t.equal((await range('bytes=0-9')).status, 206, 'the server is healthy')
  })

  t.test('78: eight connections read their parts at the same time', async (t) => {
    const large = await daemon.addImage(randomBytes(32 * MiB + 123))
    const part = 4 * MiB + 17
    const parts = await Promise.all(
      Array.from({ length: 8 }, (_, index) => {
        const last = index === 7 ? '' : String((index + 1) * part - 1)
        return range(`bytes=${index * part}-${last}`, large)
      }),
    )
    t.ok(Buffer.concat(parts.map(({ body }) => body)).equals(large.bytes()))
  })

  t.test('79: TLS, HTTP/2 and the Unix socket give the same bytes', async (t) => {
    const large = await daemon.addImage(randomBytes(20 * MiB + 1))
    const digest = createHash('sha256')
    for await (const chunk of createReadStream(large.file)) digest.update(chunk as Buffer)
    const expected = digest.digest('hex')
    const session = await openH2(remote)
    for (const reply of [
      await get(large),
      await request(daemon.local, 'GET', large.url),
      await requestH2(session, 'GET', large.url),
    ]) {
      t.equal(createHash('sha256').update(reply.body).digest('hex'), expected)
    }
    const headers = { range: 'bytes=7-20' }
    const part = await requestH2(session, 'GET', large.url, { headers })
    t.equal(part.status, 206)
    t.same(part.body, large.bytes().subarray(7, 21))
    session.destroy()
  })

  t.test('58: many requests on one connection', async (t) => {
    const agent = keepAlive(remote)
    for (let first = 0; first < 40; first++) {
      const reply = await request(remote, 'GET', image.url, {
        agent,
        headers: { range: `bytes=${first * 200}-${first * 200 + 99}` },
      })
      t.same(reply.body, content.subarray(first * 200, first * 200 + 100))
    }
    await daemon.ticketWhen(image.id, 'one connection', (info) => info.connections === 1)
    agent.destroy()
  })
})

t.test('79: the same over plain TCP', async (t) => {
  const daemon = await startDaemon(t, { tls: false })
  const image = await daemon.addImage(1_000_001)
  const reply = await request(daemon.remote, 'GET', image.url)
  t.ok(reply.body.equals(image.bytes()))
  const put = await request(daemon.remote, 'PUT', image.url, { body: Buffer.alloc(1_000_001, 'y') })
  t.equal(put.status, 200)
  t.ok(image.bytes().equals(Buffer.alloc(1_000_001, 'y')))
})
