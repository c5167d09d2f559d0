/** Buffers of the proxy: bounded for all transfers together, waited for, and handed on. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:http2'
import { KiB, MiB } from '../../../core/units.js'
import { startFakeDaemon } from '../../support/fake-daemon.js'
import { openH2, request, requestH2 } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { addTicket } from './fake-tickets.js'
import { ask, allAreFree, COUNT, get, put, stalled, start, takeAll } from './buffers.js'

t.test('without a buffer a transfer waits, and then it is 503 with Retry-After', async (t) => {
  const { daemon, proxy, pair } = await start(t, { buffer_wait_timeout: 1 })
  const fake = await startFakeDaemon(t, () => undefined)
  const slow = await takeAll(t, proxy, fake)
  const image = await pair.addImage(MiB)
  for (const [method, body] of [
    ['GET', {}],
    ['PUT', { body: randomBytes(MiB) }],
  ] as const) {
    const { status, headers, text } = await request(proxy.remote, method, image.url, body)
    t.match({ status, text }, { status: 503, text: /too many transfers/ }, method)
    t.equal(headers['retry-after'], '5')
  }
  const session = await openH2(proxy.remote)
  t.teardown(() => session.destroy())
  const reply = await requestH2(session, 'GET', image.url)
  t.match(reply, { status: 503, headers: { 'retry-after': '5' } })
  t.match(proxy.logText(), 'ERR_BUFFERS_BUSY')
  t.notMatch(daemon.logText(), /operation ended/, 'the daemon was not asked')
  t.equal(fake.open(), COUNT, 'nobody lost a connection')

  // Small requests need none.
  const small = { headers: { range: 'bytes=0-65535' } }
  t.equal((await request(proxy.remote, 'GET', image.url, small)).status, 206)
  t.equal((await request(proxy.remote, 'PUT', image.url, { body: 'small' })).status, 200)
  const tiny = await pair.addImage(64 * KiB)
  t.ok((await request(proxy.remote, 'GET', tiny.url)).body.equals(tiny.bytes()))
  const tail = `bytes=${MiB - 64 * KiB}-`
  for (const [{ url }, range, status] of [
    [tiny, 'bytes=0-', 206],
    [tiny, 'bytes=-1000000', 206],
    [image, tail, 206],
    [image, 'bytes=-65536', 206],
    [image, `bytes=${MiB - 64 * KiB - 1}-`, 503],
  ] as const) {
    t.equal((await request(proxy.remote, 'GET', url, { headers: { range } })).status, status, range)
  }
  t.equal((await request(proxy.remote, 'GET', `${image.url}/extents`)).status, 200)
  t.equal((await request(proxy.remote, 'OPTIONS', image.url)).status, 200)

  for (const wire of slow) wire.destroy()
  await until('they have gone', () => fake.open() === 0)
  t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
})

t.test('who waits gets the buffer of a transfer that ends', async (t) => {
  const { proxy, pair } = await start(t, { buffer_wait_timeout: 20 })
  const fake = await startFakeDaemon(t, () => undefined)
  const slow = await takeAll(t, proxy, fake)
  const [down, up] = [await pair.addImage(3 * MiB), await pair.addImage(3 * MiB)]
  const body = randomBytes(3 * MiB)
  const transfers = [
    request(proxy.remote, 'GET', down.url),
    request(proxy.remote, 'PUT', up.url, { body }),
  ]
  for (const { id } of [down, up]) await proxy.ticketWhen(id, 'it waits', ({ active }) => active)
  slow.shift()?.destroy()
  // One after the other, with one buffer.
  const [got, stored] = await Promise.all(transfers)
  t.ok(got?.body.equals(down.bytes()))
  t.equal(stored?.status, 200)
  t.ok(up.bytes().equals(body))
})

t.test('clients that take nothing hold buffers, and others wait for them', async (t) => {
  const { daemon, proxy, pair } = await start(t, { buffer_wait_timeout: 1 })
  const slow = await pair.addImage(Buffer.alloc(64 * MiB))
  const wires: Wire[] = []
  for (let count = 0; count < COUNT; count++) {
    wires.push(await ask(t, proxy, get(slow.url), false))
  }
  const image = await pair.addImage(MiB)
  const { status, headers } = await request(proxy.remote, 'GET', image.url)
  t.equal(status, 503)
  t.ok(headers['retry-after'])
  for (const wire of wires) wire.destroy()
  await proxy.ticketWhen(slow.id, 'they have gone', ({ active }) => !active)
  await daemon.ticketWhen(slow.id, 'the daemon is left', ({ active }) => !active)
  t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
  await allAreFree(t, proxy, 'clients that took nothing')
})

t.test('one buffer is enough for all, one after the other', async (t) => {
  const limits = { buffer_memory: MiB, buffer_wait_timeout: 20 }
  const { proxy, pair } = await start(t, limits, { max_connections_per_ticket: 1 })
  const body = randomBytes(3 * MiB)
  const image = await pair.addImage(body)
  // The daemon's ticket has more of the image: it is asked a second time.
  const clipped = await pair.addImage(body, {}, { size: 2 * MiB })
  // Node's client has room for 10 MiB of bodies in a session.
  const sessions = [await openH2(proxy.remote), await openH2(proxy.remote)]
  t.teardown(() => sessions.forEach((session) => session.destroy()))
  const asked = [...sessions, ...sessions].map((session) => [
    request(proxy.remote, 'GET', image.url),
    requestH2(session, 'GET', image.url),
    request(proxy.remote, 'PUT', image.url, { body }),
    requestH2(session, 'PUT', image.url, { body }),
    request(proxy.remote, 'GET', clipped.url),
  ])
  for (const { status } of await Promise.all(asked.flat())) t.equal(status, 200)
  t.ok(image.bytes().equals(body))
})

t.test('what a write that was given up still uses is not lent again', async (t) => {
  const { proxy, pair } = await start(t, { buffer_wait_timeout: 1 })
  const stalls = await startFakeDaemon(t, ({ socket }) => void socket.pause())
  const url = await addTicket(proxy, stalls, { size: 64 * MiB })
  const wire = await ask(t, proxy, put(url))
  let sent = 0
  const sending = async (): Promise<void> => {
    while (await wire.send(Buffer.alloc(MiB))) sent++
  }
  void sending()
  const { socket } = await stalls.when(1)
  let [before, since] = [sent, performance.now()]
  await until('it stalls, with both buffers full', () => {
    if (sent !== before) [before, since] = [sent, performance.now()]
    return performance.now() - since > 500
  })
  // It refuses, and the proxy passes on what there is of the answer.
  socket.write(`HTTP/1.1 507 Full\r\nContent-Length: ${MiB}\r\n\r\nhalf`)
  await until('the refusal is here', () => wire.peek().includes('507'))
  const fake = await startFakeDaemon(t, () => undefined)
  const other = await addTicket(proxy, fake, { size: 64 * MiB })
  const slow: Wire[] = []
  for (let count = 0; count < COUNT - 2; count++) slow.push(await ask(t, proxy, put(other)))
  await until('they have the rest', () => fake.open() === COUNT - 2)
  const image = await pair.addImage(MiB)
  t.equal((await request(proxy.remote, 'GET', image.url)).status, 503)
  socket.destroy()
  for (const one of slow) one.destroy()
  await until('they have gone', () => fake.open() === 0)
  await allAreFree(t, proxy, 'a write that was given up')
})

t.test('a client that leaves the line, or a ticket that ends there', async (t) => {
  const { proxy, pair } = await start(t, { buffer_wait_timeout: 30 })
  const fake = await startFakeDaemon(t, () => undefined)
  const slow = await takeAll(t, proxy, fake)
  const [left, canceled] = [await pair.addImage(MiB), await pair.addImage(MiB)]
  const wire = await ask(t, proxy, get(left.url))
  const other = await ask(t, proxy, put(canceled.url, MiB))
  for (const { id } of [left, canceled]) {
    await proxy.ticketWhen(id, 'it waits', ({ active }) => active)
  }
  wire.destroy()
  await proxy.ticketWhen(left.id, 'it has left', ({ active }) => !active)
  t.equal((await proxy.controlRequest('DELETE', `/tickets/${canceled.id}`)).status, 204)
  t.equal((await other.response()).status, 403)
  for (const one of slow) one.destroy()
  await until('they have gone', () => fake.open() === 0)
  await allAreFree(t, proxy, 'waits that were given up')
})

t.test('uploads whose clients have gone give up their turn and their place in line', async (t) => {
  const limits = { buffer_wait_timeout: 30 }
  const { proxy, pair } = await start(t, limits, { max_connections_per_ticket: COUNT })
  const fake = await startFakeDaemon(t, () => undefined)
  const slow = await takeAll(t, proxy, fake)
  const image = await pair.addImage(MiB)
  const before = image.bytes()
  for (const begin of ['', 'begin', Buffer.alloc(100 * KiB)]) {
    const wires: Wire[] = []
    for (let count = 0; count <= COUNT; count++) {
      const wire = await ask(t, proxy, put(image.url, MiB))
      await wire.send(begin)
      wires.push(wire)
    }
    await proxy.ticketWhen(image.id, 'all wait', ({ connections }) => connections === COUNT + 1)
    for (const wire of wires) wire.reset()
    await proxy.ticketWhen(image.id, 'they have left', ({ active }) => !active)
    t.equal((await request(proxy.remote, 'GET', `${image.url}/extents`)).status, 200)
  }
  const session = await openH2(proxy.remote)
  t.teardown(() => session.destroy())
  for (const end of ['stream', 'session']) {
    const headers = { ':method': 'PUT', ':path': image.url, 'content-length': MiB }
    const stream = session.request(headers, { endStream: false })
    stream.on('error', () => undefined).write('begin')
    await proxy.ticketWhen(image.id, 'it waits', ({ active }) => active)
    if (end === 'stream') stream.close(constants.NGHTTP2_CANCEL)
    else session.destroy()
    await proxy.ticketWhen(image.id, `the ${end} has gone`, ({ active }) => !active)
  }
  t.ok(image.bytes().equals(before), 'nothing was written')
  for (const wire of slow) wire.destroy()
  await until('they have gone', () => fake.open() === 0)
  await allAreFree(t, proxy, 'uploads that left the line')
})

t.test('an upload that came whole is written, though its client has gone', async (t) => {
  const { proxy } = await start(t, {}, { max_connections_per_ticket: 1 })
  const fake = await startFakeDaemon(t, ({ socket, method }) => {
    if (method === 'PUT') socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  })
  const url = await addTicket(proxy, fake, { size: 64 * MiB })
  const id = url.slice('/images/'.length)
  const first = await ask(t, proxy, get(url))
  await fake.when(1)
  const wire = await ask(t, proxy, `${put(url, 5)}whole`)
  await proxy.ticketWhen(id, 'it waits for its turn', ({ connections }) => connections === 2)
  wire.reset()
  await proxy.ticketWhen(id, 'the client has gone', ({ connections }) => connections === 1)
  first.destroy()
  const asked = await fake.when(2)
  await until('all of it came', () => asked.body().toString() === 'whole')
})

t.test('who needs a first buffer is given the second of a transfer that runs', async (t) => {
  const { proxy, pair } = await start(t, { buffer_wait_timeout: 20 })
  const slow = await pair.addImage(Buffer.alloc(64 * MiB))
  const wires: Wire[] = []
  for (let count = 0; count < COUNT / 2; count++) {
    wires.push(await ask(t, proxy, get(slow.url), false))
    // It has two when nothing moves any more.
    await stalled(proxy, slow.id)
  }
  const image = await pair.addImage(3 * MiB)
  const waiting = request(proxy.remote, 'GET', image.url)
  await proxy.ticketWhen(image.id, 'it waits', ({ active }) => active)
  // They go on, for a while, and keep one each.
  for (const wire of wires) {
    const enough = (): void => {
      if (wire.size > 8 * MiB) wire.socket.pause()
    }
    wire.read()
    wire.socket.on('data', enough)
  }
  const { status, body } = await waiting
  t.equal(status, 200)
  t.ok(body.equals(image.bytes()))
  t.ok(wires.every(({ size }) => size < 64 * MiB))
  for (const wire of wires) wire.destroy()
  await proxy.ticketWhen(slow.id, 'they have gone', ({ active }) => !active)
  await allAreFree(t, proxy, 'buffers that were handed on')
})
