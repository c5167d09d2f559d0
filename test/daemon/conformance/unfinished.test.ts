/** Changes that were announced and not made: known until somebody makes them, or the ticket ends. */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import t from 'tap'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const SIZE = 65536
const HALF = SIZE / 2

t.test('uploads that were cut off', async (t) => {
  const daemon = await startDaemon(t)
  const body = randomBytes(SIZE)
  const put = (url: string, bytes: Buffer, offset = 0) => {
    const last = offset + bytes.length - 1
    const headers = { 'content-range': `bytes ${offset}-${last}/*` }
    return request(daemon.remote, 'PUT', url, { body: bytes, headers })
  }
  const missing = async (id: string, size: number | undefined) => {
    await daemon.ticketWhen(id, 'nobody uses it', (info) => !info.active)
    t.equal((await daemon.ticket(id)).unfinished, size)
  }
  const remove = async (id: string, query: string): Promise<number> =>
    (await daemon.controlRequest('DELETE', `/tickets/${id}${query}`)).status
  /** Sends the head and half of the body, and goes. */
  const leave = async (image: TestImage, framing: string, half: Buffer | string): Promise<void> => {
    const wire = await Wire.open(daemon.remote)
    await wire.send(`PUT ${image.url} HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`)
    await wire.send(half)
    await daemon.ticketWhen(image.id, 'it writes', (info) => info.active)
    wire.destroy()
  }
  const length = `Content-Length: ${SIZE}`

  t.test('are told to who removes the ticket for good', async (t) => {
    const image = await daemon.addImage(SIZE, { ops: ['write'] })
    await leave(image, length, body.subarray(0, HALF))
    await missing(image.id, HALF)
    for (let times = 0; times < 2; times++) {
      const reply = await daemon.controlRequest('DELETE', `/tickets/${image.id}?final=y`)
      t.equal(reply.status, 412)
      t.match(reply.text, /failed or were cut off: 32768 bytes/)
    }
    t.equal(await remove(image.id, '?final=y&lost=y'), 204)
    const other = await daemon.addImage(SIZE)
    await leave(other, length, body.subarray(0, HALF))
    await missing(other.id, HALF)
    t.equal(await remove(other.id, ''), 204, 'not to an engine, which does not ask')
  })

  t.test('are complete when what was missing was written', async () => {
    const image = await daemon.addImage(SIZE)
    await leave(image, length, body.subarray(0, HALF))
    await missing(image.id, HALF)
    t.equal((await put(image.url, body.subarray(HALF, SIZE - 1), HALF)).status, 200)
    await missing(image.id, 1)
    const zero = JSON.stringify({ op: 'zero', offset: SIZE - 1, size: 1 })
    t.equal((await request(daemon.remote, 'PATCH', image.url, { body: zero })).status, 200)
    await missing(image.id, undefined)
    t.equal(await remove(image.id, '?final=y'), 204)
  })

  t.test('in chunks lack at least one byte', async () => {
    const image = await daemon.addImage(SIZE)
    await leave(image, 'Transfer-Encoding: chunked', '3\r\nabc\r\n')
    await missing(image.id, 1)
    t.equal((await put(image.url, Buffer.from('d'), 3)).status, 200)
    await missing(image.id, undefined)
  })

  t.test('in chunks are whole when they come again, and are no longer', async () => {
    const image = await daemon.addImage(SIZE)
    const half = body.subarray(0, HALF)
    const chunk = [Buffer.from(`${HALF.toString(16)}\r\n`), half, Buffer.from('\r\n')]
    await leave(image, 'Transfer-Encoding: chunked', Buffer.concat(chunk))
    await missing(image.id, 1)
    t.equal((await put(image.url, half)).status, 200)
    await missing(image.id, undefined)
  })

  t.test('also when another ticket takes the place of theirs', async () => {
    const image = await daemon.addImage(SIZE)
    await leave(image, length, body.subarray(0, HALF))
    await missing(image.id, HALF)
    await daemon.addTicketFor(image.file, { uuid: image.id, size: SIZE })
    await missing(image.id, HALF)
    t.equal((await put(image.url, body)).status, 200)
    await missing(image.id, undefined)
  })

  t.test('also of a ticket that another daemon had', async () => {
    const missing = [
      [0, 10],
      [100, 5],
    ]
    const image = await daemon.addImage(SIZE, { missing })
    t.same((await daemon.ticket(image.id)).missing, missing)
    t.equal((await daemon.ticket(image.id)).unfinished, 15)
    t.equal((await put(image.url, body.subarray(0, 100))).status, 200)
    t.same((await daemon.ticket(image.id)).missing, [[100, 5]])
    for (const wrong of [{}, [1], [[-1, 2]], [['a', 1]], Array<number[]>(65).fill([0, 1])]) {
      await t.rejects(daemon.addImage(SIZE, { missing: wrong }))
    }
  })

  t.test('and bodies that are not what their digest says', async () => {
    const image = await daemon.addImage(SIZE)
    const headers = { 'content-digest': `sha-256=:${randomBytes(32).toString('base64')}:` }
    const reply = await request(daemon.remote, 'PUT', image.url, { body, headers })
    t.equal(reply.status, 400)
    await missing(image.id, SIZE)
    t.equal((await put(image.url, body)).status, 200)
    await missing(image.id, undefined)
  })

  t.test('are complete when others had written all before they ended', async () => {
    const image = await daemon.addImage(SIZE)
    for (const framing of [length, 'Transfer-Encoding: chunked']) {
      const wire = await Wire.open(daemon.remote)
      await wire.send(`PUT ${image.url} HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`)
      await wire.send(framing === length ? body.subarray(0, HALF) : '3\r\nabc\r\n')
      await daemon.ticketWhen(image.id, 'it writes', (info) => info.active)
      t.equal((await put(image.url, body)).status, 200)
      wire.destroy()
      await missing(image.id, undefined)
    }
    t.equal(await remove(image.id, '?final=y'), 204)
  })

  t.test('and what is larger than the image', async () => {
    const image = await daemon.addImage(SIZE)
    t.equal((await put(image.url, body, HALF)).status, 416)
    await missing(image.id, HALF)
    t.equal((await put(image.url, body)).status, 200)
    await missing(image.id, undefined)
    t.equal((await put(image.url, body, SIZE)).status, 416)
    await missing(image.id, 1)
  })

  t.test('what is refused for another reason is not', async () => {
    const image = await daemon.addImage(SIZE)
    const headers = { 'if-match': '"other"' }
    t.equal((await request(daemon.remote, 'PUT', image.url, { body, headers })).status, 412)
    await missing(image.id, undefined)
  })
})

t.test('a ticket that replaces the image empties it before the first change', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage(SIZE, { replace: true })
  const put = (bytes: string, offset: number) =>
    request(daemon.remote, 'PUT', image.url, {
      body: bytes,
      headers: { 'content-range': `bytes ${offset}-${offset + bytes.length - 1}/*` },
    })
  t.equal((await request(daemon.remote, 'GET', image.url)).status, 200)
  t.equal((await put('x', SIZE)).status, 416)
  t.equal(image.bytes().length, SIZE, 'not by what is refused or reads')
  const pieces = await Promise.all([put('cd', 2), put('ab', 0), put('ef', 4)])
  t.same(
    pieces.map(({ status }) => status),
    [200, 200, 200],
  )
  t.equal(image.bytes().toString(), 'abcdef')
  t.equal((await put('gh', 6)).status, 200)
  t.equal(image.bytes().toString(), 'abcdefgh')
})

t.test('a request that fails before the image is open has failed as well', async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage(SIZE)
  rmSync(image.file)
  t.not((await request(daemon.remote, 'PUT', image.url, { body: Buffer.alloc(10) })).status, 200)
  t.equal((await daemon.ticket(image.id)).unfinished, 10)
})

t.test('a daemon that is killed takes nothing of it along', async (t) => {
  const SIGNALS = ['SIGKILL', 'SIGTERM'] as const
  for (const signal of SIGNALS) {
    t.test(signal, async (t) => {
      const first = await startDaemon(t, { config: { daemon: { shutdown_timeout: 0 } } })
      const image = await first.addImage(SIZE, { ops: ['write'] })
      const wire = await Wire.open(first.remote)
      t.teardown(() => wire.destroy())
      await wire.send(`PUT ${image.url} HTTP/1.1\r\nHost: a\r\nContent-Length: ${SIZE}\r\n\r\nabc`)
      await first.ticketWhen(image.id, 'it writes', (info) => info.active)
      first.process.kill(signal)
      await first.exited()
      const second = await startDaemon(t, { from: first })
      const remove = (query: string) =>
        second.controlRequest('DELETE', `/tickets/${image.id}?final=y${query}`)
      const again = { uuid: image.id, size: SIZE, ops: ['write'], missing: [[0, 1]] }
      await second.addTicketFor(image.file, again)
      const info = await second.ticket(image.id)
      t.match(info, { recalled: true })
      t.ok(info.unfinished! >= SIZE - 3 && info.unfinished! <= SIZE, String(info.unfinished))
      const reply = await request(second.remote, 'PUT', image.url, { body: randomBytes(SIZE) })
      t.equal(reply.status, 200)
      t.equal((await second.ticket(image.id)).unfinished, undefined)
      t.equal((await remove('')).status, 204)
      await t.rejects(second.addTicketFor(image.file, again), /410/)
    })
  }

  t.test('nor that an image is to be emptied, once', async (t) => {
    const first = await startDaemon(t)
    const image = await first.addImage(SIZE, { ops: ['write'], replace: true })
    await first.stop()
    const second = await startDaemon(t, { from: first })
    await second.addTicketFor(image.file, { uuid: image.id, size: SIZE, ops: ['write'] })
    for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
      const empty = await request(second.remote, 'PUT', image.url, { body: '', headers })
      t.equal(empty.status, 200)
    }
    t.equal(image.bytes().length, SIZE, 'nothing has come')
    const headers = { 'transfer-encoding': 'chunked' }
    const reply = await request(second.remote, 'PUT', image.url, { body: 'abc', headers })
    t.equal(reply.status, 200)
    t.equal(image.bytes().toString(), 'abc')
    await second.stop()
    const third = await startDaemon(t, { from: second })
    const again = { uuid: image.id, size: SIZE, ops: ['write'], replace: true }
    await third.addTicketFor(image.file, again)
    const behind = { 'content-range': 'bytes 3-5/*' }
    await request(third.remote, 'PUT', image.url, { body: 'def', headers: behind })
    t.equal(image.bytes().toString(), 'abcdef')
    t.equal((await third.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
  })

  t.test('nor under a ticket that expired, was forgotten and is removed', async (t) => {
    const config = { control: { expired_ticket_grace: 0 } }
    const daemon = await startDaemon(t, { config })
    const image = await daemon.addImage(SIZE, { ops: ['write'] })
    const headers = { 'content-digest': `sha-256=:${Buffer.alloc(32).toString('base64')}:` }
    const reply = await request(daemon.remote, 'PUT', image.url, { body: 'abc', headers })
    t.equal(reply.status, 400)
    await daemon.controlRequest('PATCH', `/tickets/${image.id}`, { timeout: 0 })
    const path = `/tickets/${image.id}`
    const status = async (): Promise<number> => (await daemon.controlRequest('GET', path)).status
    await until('it is forgotten', async () => (await status()) === 404, { timeoutMs: 30_000 })
    const [final, known] = [`${path}?final=y`, `${path}?final=y&lost=y`]
    t.equal((await daemon.controlRequest('DELETE', final)).status, 412)
    t.equal((await daemon.controlRequest('DELETE', known)).status, 204)
    t.equal((await daemon.controlRequest('DELETE', final)).status, 204)
  })
})
