import { randomBytes } from 'node:crypto'
import t from 'tap'
import { openH2, request, requestH2 } from '../../support/http.js'
import { startPair } from '../../support/proxy.js'
import { notFasterThan } from '../../support/rate.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const KiB = 1024
const MiB = 1024 * KiB
const HOST = 'Host: localhost\r\n'
const HELD = { max_bytes_per_second: 1 }

t.test('a limit of the ticket at the proxy', async (t) => {
  const pair = await startPair(t)
  const { proxy, daemon } = pair

  t.test('holds for downloads and uploads, however they come', async (t) => {
    const rate = 128 * KiB
    const size = 160 * KiB
    const limit = { max_bytes_per_second: rate }
    const content = randomBytes(size)
    const session = await openH2(proxy.remote)
    t.teardown(() => session.destroy())
    const download = async (isH2: boolean): Promise<void> => {
      const { url } = await pair.addImage(content, {}, limit)
      const reply = isH2
        ? await requestH2(session, 'GET', url)
        : await request(proxy.remote, 'GET', url)
      t.ok(reply.body.equals(content))
    }
    const upload = async (isH2: boolean, headers = {}): Promise<void> => {
      const image = await pair.addImage(size, {}, limit)
      const ask = { body: content, headers }
      const reply = isH2
        ? await requestH2(session, 'PUT', image.url, ask)
        : await request(proxy.remote, 'PUT', image.url, ask)
      t.equal(reply.status, 200)
      t.ok(image.bytes().equals(content))
    }
    const chunked = { 'transfer-encoding': 'chunked' }
    await Promise.all([
      notFasterThan(t, 'download, h1', rate, size, () => download(false)),
      notFasterThan(t, 'download, h2', rate, size, () => download(true)),
      notFasterThan(t, 'upload, h1', rate, size, () => upload(false)),
      notFasterThan(t, 'upload, chunked', rate, size, () => upload(false, chunked)),
      notFasterThan(t, 'upload, h2', rate, size, () => upload(true)),
    ])
  })

  t.test('is taken away while transfers run', async (t) => {
    const content = randomBytes(4 * MiB)
    const image = await pair.addImage(content, {}, HELD)
    const transfers = [
      request(proxy.remote, 'GET', image.url),
      request(proxy.remote, 'PUT', image.url, { body: content }),
    ]
    await proxy.ticketWhen(image.id, 'both', ({ connections }) => connections === 2)
    const none = { max_bytes_per_second: 0 }
    t.equal((await proxy.controlRequest('PATCH', `/tickets/${image.id}`, none)).status, 200)
    for (const { status } of await Promise.all(transfers)) t.equal(status, 200)
  })

  t.test('does not keep a ticket from being removed', async (t) => {
    const image = await pair.addImage(MiB, {}, HELD)
    const get = async (): Promise<Wire> => {
      const wire = await Wire.open(proxy.remote)
      await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
      return wire
    }
    const first = await get()
    await until('bytes', () => first.size > KiB)
    const second = await get()
    const upload = request(proxy.remote, 'PUT', image.url, { body: Buffer.alloc(MiB) })
    await proxy.ticketWhen(image.id, 'all three', ({ connections }) => connections === 3)
    t.equal((await proxy.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
    t.ok((await first.rest()).length < MiB, 'cut')
    t.equal((await second.response()).status, 403)
    t.equal((await upload).status, 403)
    await daemon.ticketWhen(image.id, 'none', ({ connections }) => connections === 0)
  })

  t.test('is for the image only, and ends with the client', async (t) => {
    const image = await pair.addImage(MiB, {}, { max_bytes_per_second: 8 * KiB })
    const wire = await Wire.open(proxy.remote)
    await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
    await until('bytes', () => wire.size > KiB)
    t.equal((await request(proxy.remote, 'GET', `${image.url}/extents`)).status, 200)
    t.equal((await request(proxy.remote, 'GET', `${image.url}/checksum?manifest=y`)).status, 200)
    wire.destroy()
    await proxy.ticketWhen(image.id, 'left', ({ active }) => !active)
    await daemon.ticketWhen(image.id, 'left', ({ active }) => !active)
  })
})

t.test('the limit for all of a proxy, and that of a daemon behind it', async (t) => {
  const limits = { max_bytes_per_second: 256 * KiB }
  for (const options of [{ proxy: { limits } }, { daemon: { config: { limits } } }]) {
    const pair = await startPair(t, options)
    const images = [await pair.addImage(128 * KiB), await pair.addImage(128 * KiB)]
    const name = Object.keys(options).join()
    await notFasterThan(t, name, limits.max_bytes_per_second, 256 * KiB, async () => {
      const asked = images.map(({ url }) => request(pair.proxy.remote, 'GET', url))
      for (const { body } of await Promise.all(asked)) t.equal(body.length, 128 * KiB)
    })
  }
})
