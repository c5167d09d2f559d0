import t from 'tap'
import { startDaemon, type TestImage, type TicketInfo } from '../../support/daemon.js'
import { keepAlive, openH2, request, type Reply } from '../../support/http.js'
import { sleep } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const MiB = 1024 * 1024
const HOST = 'Host: localhost\r\n'

t.test('K. accounting', async (t) => {
  const daemon = await startDaemon(t)
  const { remote } = daemon
  const read = (image: TestImage, first: number, last: number): Promise<Reply> =>
    request(remote, 'GET', image.url, { headers: { range: `bytes=${first}-${last}` } })
  const write = (image: TestImage, offset: number, size: number): Promise<Reply> => {
    const headers = { 'content-range': `bytes ${offset}-*/*` }
    return request(remote, 'PUT', image.url, { headers, body: Buffer.alloc(size, 'y') })
  }
  const patch = (image: TestImage, json: unknown): Promise<Reply> =>
    request(remote, 'PATCH', image.url, { body: JSON.stringify(json) })
  const transferred = async ({ id }: TestImage): Promise<number | undefined> =>
    (await daemon.ticketWhen(id, 'idle', (info) => !info.active)).transferred
  const idle = (image: TestImage): Promise<TicketInfo> =>
    daemon.ticketWhen(image.id, 'idle for a second', (info) => info.idle_time >= 1)

  t.test('183: a new ticket to read', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['read'] })
    const expected = { transferred: 0, active: false, idle_time: 0, connections: 0 }
    t.match(await daemon.ticket(image.id), expected)
  })

  t.test('184: what was read is counted once', async (t) => {
    const orders = [
      [0, 100, 200],
      [100, 0, 200],
    ] as const
    for (const order of orders) {
      const image = await daemon.addImage(8192, { ops: ['read'] })
      for (const first of order.slice(0, 2)) await read(image, first, first + 99)
      t.equal(await transferred(image), 200)
      await read(image, 0, 99)
      await read(image, 50, 149)
      t.equal(await transferred(image), 200, 'repeated')
      await read(image, 1000, 1000)
      t.equal(await transferred(image), 201)
    }
    const overlapping = await daemon.addImage(8192, { ops: ['read'] })
    await read(overlapping, 0, 119)
    await read(overlapping, 100, 199)
    t.equal(await transferred(overlapping), 200)
  })

  t.test('185: a ticket to read and write does not count', async (t) => {
    const image = await daemon.addImage()
    await read(image, 0, 99)
    t.notOk('transferred' in (await daemon.ticket(image.id)))
    const none = await daemon.addImage(10, { ops: [] })
    t.equal((await daemon.ticket(none.id)).transferred, 0)
  })

  t.test('186: what was written and zeroed is counted once', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['write'] })
    await write(image, 0, 10)
    await patch(image, { op: 'zero', offset: 5, size: 10 })
    await write(image, 100, 10)
    t.equal(await transferred(image), 25)
  })

  t.test('187: a flush is activity and no transfer', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['write'] })
    await write(image, 0, 10)
    await idle(image)
    await patch(image, { op: 'flush' })
    t.match(await daemon.ticket(image.id), { transferred: 10, idle_time: 0 })
  })

  t.test('188-189: a download is active until its end, and renews the ticket', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(64 * MiB), { ops: ['read'], timeout: 100 })
    const before = await daemon.ticket(image.id)
    const wire = await Wire.open(remote, { isReading: false })
    await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
    await daemon.ticketWhen(image.id, 'active', (info) => info.active)
    await sleep(1200)
    const stalled = await daemon.ticket(image.id)
    t.match(stalled, { active: true, idle_time: 0, connections: 1 })
    t.ok((stalled.transferred ?? -1) >= 0 && (stalled.transferred ?? -1) < 64 * MiB)
    const goesOn = performance.now()
    wire.read()
    t.equal((await wire.response()).body.length, 64 * MiB)
    const done = await daemon.ticketWhen(image.id, 'idle', (info) => !info.active)
    t.match(done, { transferred: 64 * MiB, canceled: false })
    t.ok(done.idle_time <= (performance.now() - goesOn) / 1000)
    t.ok(done.expires > before.expires)
    wire.destroy()
  })

  t.test('190: a failed upload counts what it did, as activity, too', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['write'] })
    await idle(image)
    const wire = await Wire.open(daemon.local)
    await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 99\r\n\r\nten bytes!`)
    await daemon.ticketWhen(image.id, 'active', (info) => info.active)
    wire.destroy()
    t.equal(await transferred(image), 10)
    t.equal((await daemon.ticket(image.id)).idle_time, 0)
  })

  t.test('191-192: refused requests and looks are no activity, extents are', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['read'] })
    const { expires } = await idle(image)
    t.equal((await read(image, 0, 8192)).status, 416)
    t.equal((await write(image, 0, 1)).status, 403)
    t.equal((await patch(image, { op: 'none' })).status, 400)
    const info = await daemon.ticket(image.id)
    t.ok(info.idle_time >= 1)
    t.equal(info.expires, expires)
    t.equal((await request(remote, 'GET', `${image.url}/extents`)).status, 200)
    const after = await daemon.ticket(image.id)
    t.equal(after.idle_time, 0)
    t.ok(after.expires > expires)
    t.equal(after.transferred, 0)
  })

  t.test('193: connections that opened the image are counted until they close', async (t) => {
    const image = await daemon.addImage()
    const agents = [keepAlive(remote), keepAlive(remote), keepAlive(daemon.local)]
    const targets = [remote, remote, daemon.local]
    for (const [index, agent] of agents.entries()) {
      const target = targets[index] ?? remote
      await request(target, 'GET', image.url, { agent })
      await request(target, 'GET', image.url, { agent })
      t.equal((await daemon.ticket(image.id)).connections, index + 1)
    }
    t.ok(await daemon.holds(image.file))
    for (const [index, agent] of agents.entries()) {
      agent.destroy()
      const left = agents.length - index - 1
      await daemon.ticketWhen(image.id, `${left} left`, (info) => info.connections === left)
    }
    t.notOk(await daemon.holds(image.file))
  })

  t.test('194: a ticket that expires does not end the download', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(64 * MiB, 'x'), { timeout: 3 })
    const wire = await Wire.open(remote, { isReading: false })
    await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
    await daemon.ticketWhen(image.id, 'active', (info) => info.active)
    await sleep(3500)
    wire.read()
    t.equal((await wire.response()).body.length, 64 * MiB)
    await daemon.ticketWhen(image.id, 'idle', (info) => !info.active)
    t.equal(
      (await wire.ask(`HEAD ${image.url} HTTP/1.1\r\n${HOST}\r\n`, { isHead: true })).status,
      200,
    )
    wire.destroy()
  })

  t.test('194: a long transfer renews its ticket while bytes move', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(8, 'x'), { timeout: 1 })
    const wire = await Wire.open(remote)
    await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 8\r\n\r\n`)
    const { expires } = await daemon.ticketWhen(image.id, 'active', (info) => info.active)
    for (let sent = 0; sent < 8; sent++) {
      await wire.send('y')
      await sleep(250)
    }
    t.equal((await wire.response()).status, 200)
    t.ok((await daemon.ticket(image.id)).expires > expires)
    wire.destroy()
  })

  t.test('193: an HTTP/2 session that is torn down leaves nothing', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(64 * MiB), { ops: ['read'] })
    const session = await openH2(remote)
    const stream = session.request({ ':path': image.url })
    stream.on('error', () => undefined)
    await daemon.ticketWhen(image.id, 'active', (info) => info.active)
    session.destroy()
    const isGone = (info: TicketInfo): boolean => !info.active && info.connections === 0
    await daemon.ticketWhen(image.id, 'nothing left', isGone)
    t.ok(daemon.isRunning)
    t.equal((await read(image, 0, 9)).status, 206)
  })
})
