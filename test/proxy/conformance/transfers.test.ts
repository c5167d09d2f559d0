/** Transfers through the proxy: memory, cancellation at either side, and either side being killed. */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { openH2, request, requestH2 } from '../../support/http.js'
import { startDaemon } from '../../support/daemon.js'
import { startPair, startProxy, Pair } from '../../support/proxy.js'
import { sleep, until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const MiB = 1024 * 1024
const GiB = 1024 * MiB
const HOST = 'Host: localhost\r\n'

t.test('transfers', async (t) => {
  const pair = await startPair(t)
  const { daemon, proxy } = pair
  const peak = (): number =>
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${proxy.pid}/status`, 'utf8'))?.[1]) * 1024

  t.test('1 GiB in either direction needs no more memory than a quarter of it', async (t) => {
    const image = await pair.addImage(Buffer.alloc(0), { size: GiB })
    const piece = randomBytes(4 * MiB)
    const upload = async (size: number): Promise<void> => {
      const wire = await Wire.open(proxy.remote)
      t.teardown(() => wire.destroy())
      await wire.send(`PUT ${image.url}?flush=n HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n\r\n`)
      for (let sent = 0; sent < size; sent += piece.length) await wire.send(piece)
      t.equal((await wire.response({ timeoutMs: 60_000 })).status, 200)
    }
    const download = async (size: number): Promise<void> => {
      // Takes nothing at first: what waits for it stays bounded, too.
      const wire = await Wire.open(proxy.remote, { isReading: false })
      t.teardown(() => wire.destroy())
      const range = `Range: bytes=0-${size - 1}\r\n`
      await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}${range}\r\n`)
      await daemon.ticketWhen(image.id, 'the download has begun', (info) => info.active)
      let received = 0
      wire.socket.on('data', (chunk: Buffer) => (received += chunk.length))
      await until('everything is here', () => received > size, { timeoutMs: 60_000 })
      wire.destroy()
    }
    // Buffers that Node has let go are collected late, but by their number, not by a body's size.
    await upload(GiB / 4)
    await download(GiB / 4)
    const before = peak()
    await upload(GiB)
    t.equal(statSync(image.file).size, GiB)
    await download(GiB)
    const grown = Math.round((peak() - before) / MiB)
    t.ok(grown < 64, `grew by ${grown} MiB, from ${Math.round(before / MiB)} MiB`)
  })

  t.test('tickets here count what went through', async (t) => {
    const up = await pair.addImage(Buffer.alloc(0), { size: 3 * MiB, ops: ['write'] })
    await request(proxy.remote, 'PUT', up.url, { body: randomBytes(3 * MiB) })
    t.equal((await proxy.ticket(up.id)).transferred, 3 * MiB)
    t.equal((await daemon.ticket(up.id)).transferred, 3 * MiB)
    const down = await pair.addImage(3 * MiB, { ops: ['read'] })
    await request(proxy.remote, 'GET', down.url, { headers: { range: 'bytes=1048576-' } })
    t.equal((await proxy.ticket(down.id)).transferred, 2 * MiB)
    await request(proxy.remote, 'GET', `${down.url}/checksum`)
    t.equal((await proxy.ticket(down.id)).transferred, 2 * MiB, 'a checksum moves nothing')
    await proxy.ticketWhen(down.id, 'clients have left', (info) => info.connections === 0)
  })

  t.test('a refused upload counts nothing', async (t) => {
    const image = await pair.addImage(MiB, { ops: ['write'] }, { size: 2 * MiB })
    const beyond = { headers: { 'content-range': 'bytes 1048576-*/*' }, body: randomBytes(MiB) }
    t.match(await request(proxy.remote, 'PUT', image.url, beyond), {
      status: 416,
      headers: { 'content-range': `bytes */${MiB}` },
    })
    t.equal((await proxy.ticket(image.id)).transferred, 0)
  })

  t.test('the daemon knows of what was refused', async (t) => {
    const image = await pair.addImage(MiB, { ops: ['write'] }, { size: MiB })
    const zero = '{"op":"zero","offset":1048575,"size":2}'
    const beyond = await request(proxy.remote, 'PATCH', image.url, { body: zero })
    t.match(beyond, { status: 416, headers: { 'content-range': `bytes */${MiB}` } })
    t.ok((await daemon.ticket(image.id)).unfinished! > 0)
    const coded = { body: 'x', headers: { 'content-encoding': 'gzip' } }
    for (const { remote } of [proxy, daemon]) {
      const reply = await request(remote, 'PUT', image.url, coded)
      t.match(reply, { status: 415, headers: { 'accept-encoding': 'identity' } })
    }
    t.equal(
      (await request(proxy.remote, 'PUT', image.url, { body: Buffer.alloc(MiB) })).status,
      200,
    )
    t.equal((await daemon.ticket(image.id)).unfinished, undefined)
  })

  t.test('224-225: the daemon has no ticket, or a smaller one', async (t) => {
    const image = await pair.addImage(MiB, {}, { size: 2 * MiB })
    const headers = { range: `bytes=${MiB}-` }
    t.equal((await request(proxy.remote, 'GET', image.url, { headers })).status, 416)
    await daemon.controlRequest('DELETE', `/tickets/${image.id}`)
    for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'OPTIONS']) {
      const body = method === 'PATCH' ? { body: '{"op": "flush"}' } : { body: '' }
      const reply = await request(proxy.remote, method, image.url, body)
      t.equal(reply.status, 403, method)
      t.equal(reply.headers['connection'], 'close')
      if (method !== 'HEAD') t.equal(reply.text, 'there is no such ticket\n')
    }
  })

  t.test('a ticket smaller than the image shows only its part', async (t) => {
    const image = await pair.addImage(MiB, {}, { size: 4096 })
    const whole = await request(proxy.remote, 'GET', image.url)
    t.equal(whole.status, 200)
    t.ok(whole.body.equals(image.bytes().subarray(0, 4096)))
    const tail = await request(proxy.remote, 'GET', image.url, { headers: { range: 'bytes=-10' } })
    t.equal(tail.status, 206)
    t.ok(tail.body.equals(image.bytes().subarray(4086, 4096)))
    const extents = await request(proxy.remote, 'GET', `${image.url}/extents`)
    t.match(extents.json, [{ start: 0, length: 4096 }])
    const head = await request(proxy.remote, 'HEAD', image.url)
    t.equal(head.headers['content-length'], '4096')
  })

  t.test('227: removing the ticket here ends a transfer there', async (t) => {
    const image = await pair.addImage(64 * MiB)
    const wire = await Wire.open(proxy.remote, { isReading: false })
    t.teardown(() => wire.destroy())
    await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
    await daemon.ticketWhen(image.id, 'the download has begun', (info) => info.active)
    t.equal((await proxy.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
    await daemon.ticketWhen(image.id, 'the daemon is left', (info) => info.connections === 0)
    wire.read()
    t.ok((await wire.rest()).length < 64 * MiB)
  })

  t.test('removing the ticket there ends the client here', async (t) => {
    const image = await pair.addImage(64 * MiB)
    const down = await Wire.open(proxy.remote, { isReading: false })
    const up = await Wire.open(proxy.remote)
    t.teardown(() => [down, up].forEach((wire) => wire.destroy()))
    await down.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
    await up.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: ${MiB}\r\n\r\nstart`)
    await daemon.ticketWhen(image.id, 'both have begun', (info) => info.connections === 2)
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
    t.match(await up.response(), { status: 403, text: 'the transfer was canceled\n' })
    down.read()
    t.ok((await down.rest()).length < 64 * MiB)
    await proxy.ticketWhen(image.id, 'it is over', (info) => !info.active)
  })

  t.test('HTTP/2 clients are served as well', async (t) => {
    const session = await openH2(proxy.remote)
    t.teardown(() => session.destroy())
    const image = await pair.addImage(3 * MiB)
    const body = randomBytes(3 * MiB)
    t.equal((await requestH2(session, 'PUT', image.url, { body })).status, 200)
    const [one, other] = await Promise.all([
      requestH2(session, 'GET', image.url),
      requestH2(session, 'GET', image.url, { headers: { range: 'bytes=1-5' } }),
    ])
    t.ok(one.body.equals(body))
    t.ok(other.body.equals(body.subarray(1, 6)))
    const digest = { headers: { 'want-content-digest': 'sha-256=1' } }
    t.equal((await requestH2(session, 'GET', image.url, digest)).status, 200)
  })
})

t.test('a daemon that is killed is a cut, then 502, and back when it is', async (t) => {
  const daemon = await startDaemon(t)
  const proxy = await startProxy(t)
  const pair = new Pair(daemon, proxy)
  const image = await pair.addImage(64 * MiB)
  const down = await Wire.open(proxy.remote)
  const up = await Wire.open(proxy.remote)
  t.teardown(() => [down, up].forEach((wire) => wire.destroy()))
  // At once, or all of it is here before the daemon is killed.
  down.socket.once('data', () => down.socket.pause())
  await down.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
  await up.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: ${MiB}\r\n\r\nstart`)
  await daemon.ticketWhen(image.id, 'both have begun', (info) => info.connections === 2)
  await until('the answer has begun', () => down.size > 0)
  process.kill(daemon.pid, 'SIGKILL')
  t.equal((await up.response()).status, 502)
  down.socket.resume()
  t.ok((await down.rest()).length < 64 * MiB)
  await until('it is logged', () => proxy.logText().includes('its answer is not complete'))
  t.notMatch(proxy.logText(), 'request body is not complete')
  t.equal((await request(proxy.remote, 'GET', image.url)).status, 502)
  await daemon.exited()
  const again = await startDaemon(t, { from: daemon })
  const { file, id } = image
  await again.addTicketFor(file, { uuid: id, size: 64 * MiB })
  const reply = await request(proxy.remote, 'GET', image.url, { headers: { range: 'bytes=0-9' } })
  t.equal(reply.status, 206)
})

t.test('a proxy that is killed leaves nothing open at the daemon', async (t) => {
  const daemon = await startDaemon(t)
  const proxy = await startProxy(t)
  const image = await new Pair(daemon, proxy).addImage(64 * MiB)
  const up = await Wire.open(proxy.remote)
  t.teardown(() => up.destroy())
  await up.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: ${MiB}\r\n\r\nstart`)
  await daemon.ticketWhen(image.id, 'the upload has begun', (info) => info.active)
  await sleep(500) // the data lag behind the head, by some 20 ms
  process.kill(proxy.pid, 'SIGKILL')
  await daemon.ticketWhen(image.id, 'it is over', (info) => info.connections === 0)
  t.equal(image.bytes().toString('latin1', 0, 5), 'start', 'what came is written')
})
