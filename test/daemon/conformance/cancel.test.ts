import t from 'tap'
import { rmSync } from 'node:fs'
import { startDaemon, type Daemon, type TestImage } from '../../support/daemon.js'
import { openH2, request, requestH2 } from '../../support/http.js'
import { Wire } from '../../support/wire.js'

const MiB = 1024 * 1024
const HOST = 'Host: localhost\r\n'

/** Deletes the ticket; how long that took, and what it said. */
async function remove(daemon: Daemon, { id }: TestImage): Promise<{ status: number; ms: number }> {
  const start = performance.now()
  const { status } = await daemon.controlRequest('DELETE', `/tickets/${id}`)
  return { status, ms: performance.now() - start }
}

async function isGone(daemon: Daemon, { id, file }: TestImage): Promise<boolean> {
  const { status } = await daemon.controlRequest('GET', `/tickets/${id}`)
  return status === 404 && !(await daemon.holds(file))
}

async function startDownload(daemon: Daemon, image: TestImage): Promise<Wire> {
  const wire = await Wire.open(daemon.remote, { isReading: false })
  await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
  await daemon.ticketWhen(image.id, 'the download has begun', (info) => info.active)
  return wire
}

async function startUpload(daemon: Daemon, image: TestImage, size: number): Promise<Wire> {
  const wire = await Wire.open(daemon.remote)
  await wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n\r\nstart`)
  await daemon.ticketWhen(image.id, 'the upload has begun', (info) => info.active)
  return wire
}

t.test('K. cancellation', async (t) => {
  const daemon = await startDaemon(t, { config: { control: { remove_timeout: 5 } } })
  const large = (): Promise<TestImage> => daemon.addImage(Buffer.alloc(64 * MiB, 'x'))

  t.test('195-196: a stalled download is cut, and the ticket is gone at once', async (t) => {
    const image = await daemon.addImage(Buffer.alloc(64 * MiB, 'x'), { ops: ['read'] })
    const wire = await startDownload(daemon, image)
    await daemon.ticketWhen(image.id, 'bytes', ({ transferred = 0 }) => transferred > 0)
    const { status, ms } = await remove(daemon, image)
    t.equal(status, 204)
    t.ok(ms < 2000, `${ms} ms`)
    t.ok(await isGone(daemon, image))
    wire.read()
    const rest = await wire.rest()
    t.match(rest.toString('latin1', 0, 400), /content-length: 67108864/i)
    t.ok(rest.length < 64 * MiB, 'the client sees that bytes are missing')
  })

  t.test('197: a download that goes on is cut', async (t) => {
    const image = await large()
    const wire = await startDownload(daemon, image)
    const reading = wire.rest()
    const timer = setInterval(() => {
      wire.socket.read(64 * 1024)
    }, 20)
    const { status, ms } = await remove(daemon, image)
    t.equal(status, 204)
    t.ok(ms < 2000, `${ms} ms`)
    wire.read()
    t.ok((await reading).length < 64 * MiB)
    clearInterval(timer)
  })

  t.test('195, 198: a stalled upload gets 403 and the end', async (t) => {
    const image = await daemon.addImage(100)
    const wire = await startUpload(daemon, image, 100)
    const { status, ms } = await remove(daemon, image)
    t.equal(status, 204)
    t.ok(ms < 2000, `${ms} ms`)
    t.ok(await isGone(daemon, image))
    const reply = await wire.response()
    t.equal(reply.status, 403)
    t.match(reply.headers['connection'], /close/)
    t.ok(await wire.isClosedSilently())
  })

  t.test('198: an upload that goes on gets 403 and the end', async (t) => {
    const size = 256 * MiB
    const image = await daemon.addImage(0, { size })
    const wire = await startUpload(daemon, image, size)
    const piece = Buffer.alloc(64 * 1024)
    const sending = (async () => {
      while (!wire.isEnded && (await wire.send(piece)));
    })()
    await daemon.ticketWhen(image.id, 'bytes move', (info) => info.active)
    const { status, ms } = await remove(daemon, image)
    t.equal(status, 204)
    t.ok(ms < 3000, `${ms} ms`)
    t.ok(await isGone(daemon, image))
    t.equal((await wire.response()).status, 403)
    await wire.rest()
    await sending
  })

  t.test('199: idle connections do not hold the image, and learn of it', async (t) => {
    const image = await daemon.addImage()
    const get = `GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`
    const wire = await Wire.open(daemon.remote)
    t.equal((await wire.ask(get)).status, 200)
    t.equal((await daemon.ticket(image.id)).connections, 1)
    t.ok(await daemon.holds(image.file))
    const { status, ms } = await remove(daemon, image)
    t.equal(status, 204)
    t.ok(ms < 1000, `${ms} ms`)
    t.notOk(await daemon.holds(image.file))
    const reply = await wire.ask(get)
    t.equal(reply.status, 403)
    t.match(reply.headers['connection'], /close/)
    t.ok(await wire.isClosedSilently())
  })

  t.test('199: HTTP/2 sessions do not hold the image either', async (t) => {
    const image = await large()
    const session = await openH2(daemon.remote)
    t.equal((await requestH2(session, 'HEAD', image.url)).status, 200)
    const stalled = session.request({ ':path': image.url })
    stalled.on('error', () => undefined)
    await daemon.ticketWhen(image.id, 'the download has begun', (info) => info.active)
    const { status, ms } = await remove(daemon, image)
    t.equal(status, 204)
    t.ok(ms < 2000, `${ms} ms`)
    t.notOk(await daemon.holds(image.file))
    t.equal((await requestH2(session, 'GET', image.url)).status, 403)
    t.equal((await requestH2(session, 'GET', '/info/')).status, 200, 'the session lives on')
    session.close()
  })

  t.test('201: other tickets of the same image go on', async (t) => {
    const one = await large()
    const two = await daemon.addTicketFor(one.file, { size: 64 * MiB, ops: ['read'] })
    const [first, second] = [await startDownload(daemon, one), await startDownload(daemon, two)]
    t.equal((await remove(daemon, one)).status, 204)
    second.read()
    t.equal((await second.response()).body.length, 64 * MiB)
    await daemon.ticketWhen(two.id, 'complete', (info) => info.transferred === 64 * MiB)
    for (const wire of [first, second]) wire.destroy()
  })

  t.test('202: an id that was deleted can be added again', async (t) => {
    const image = await daemon.addImage(100, { ops: ['read'] })
    const get = () => request(daemon.remote, 'GET', image.url)
    t.equal((await get()).status, 200)
    t.equal((await remove(daemon, image)).status, 204)
    t.equal((await get()).status, 403)
    await daemon.addTicketFor(image.file, { uuid: image.id, size: 100, ops: ['read'] })
    t.match(await daemon.ticket(image.id), { transferred: 0, canceled: false, connections: 0 })
    t.equal((await get()).status, 200)
    await daemon.ticketWhen(image.id, 'counted', (info) => info.transferred === 100)
  })

  t.test('117: a long zero is canceled between its steps', async (t) => {
    const size = 16 * 1024 * MiB
    const body = JSON.stringify({ op: 'zero', size })
    // A fast file system may be done before DELETE comes: then once more.
    for (let attempt = 1; attempt <= 10; attempt++) {
      const image = await daemon.addImage(0, { size, sparse: false, ops: ['write'] })
      const zeroing = request(daemon.remote, 'PATCH', image.url, { body })
      await Promise.race([
        zeroing,
        daemon.ticketWhen(image.id, 'progress', (info) => (info.transferred ?? 0) > 0),
      ])
      const { status, ms } = await remove(daemon, image)
      t.equal(status, 204)
      t.ok(ms < 3000, `${ms} ms`)
      const end = (await zeroing).status
      rmSync(image.file)
      if (end === 403) return
      t.equal(end, 200, 'it was done before')
    }
    t.comment('this file system zeroes 16 GiB at once')
  })

  t.test('177: deleting all tickets cancels all transfers', async (t) => {
    const image = await large()
    const wire = await startDownload(daemon, image)
    const upload = await daemon.addImage(100)
    const other = await startUpload(daemon, upload, 100)
    t.equal((await daemon.controlRequest('DELETE', '/tickets/')).status, 204)
    t.ok(await isGone(daemon, image))
    t.ok(await isGone(daemon, upload))
    t.equal((await other.response()).status, 403)
    wire.destroy()
    other.destroy()
  })
})

t.test('200: without waiting, DELETE answers at once and a second one removes', async (t) => {
  const daemon = await startDaemon(t, { config: { control: { remove_timeout: 0 } } })
  const image = await daemon.addImage(Buffer.alloc(64 * MiB))
  const wire = await startDownload(daemon, image)
  const { status, ms } = await remove(daemon, image)
  t.equal(status, 204)
  t.ok(ms < 500, `${ms} ms`)
  const listed = await daemon.controlRequest('GET', `/tickets/${image.id}`)
  t.equal(listed.status, 200, 'still listed')
  t.match(listed.json, { canceled: true })
  t.equal((await request(daemon.remote, 'GET', image.url)).status, 403)
  await daemon.ticketWhen(image.id, 'ended', (info) => !info.active)
  t.equal((await remove(daemon, image)).status, 204)
  t.ok(await isGone(daemon, image))
  wire.destroy()
})
