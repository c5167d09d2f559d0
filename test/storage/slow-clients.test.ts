import t from 'tap'
import { startDaemon } from '../support/daemon.js'
import { request } from '../support/http.js'
import { until } from '../support/wait.js'
import { Wire } from '../support/wire.js'

const MiB = 1024 * 1024
const COUNT = 200
const HOST = 'Host: localhost\r\n'

t.test('200 slow clients do not starve a good one', async (t) => {
  const config = { logger_root: { level: 'INFO' } }
  const daemon = await startDaemon(t, { config })
  const image = await daemon.addImage(Buffer.alloc(64 * MiB, 'x'))
  const uploads = await daemon.addImage(Buffer.alloc(64 * MiB))
  const wires: Wire[] = []
  for (let index = 0; index < COUNT; index++) {
    const wire = await Wire.open(index % 2 === 0 ? daemon.remote : daemon.local, {
      isReading: false,
    })
    const isUpload = index % 4 < 2
    const get = `GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`
    const put = `PUT ${uploads.url} HTTP/1.1\r\n${HOST}Content-Length: ${32 * MiB}\r\n\r\nslow`
    await wire.send(isUpload ? put : get)
    wires.push(wire)
  }
  t.teardown(() => wires.forEach((wire) => wire.destroy()))
  await daemon.ticketWhen(image.id, 'all are there', (info) => info.connections >= COUNT / 2)
  const body = Buffer.alloc(64 * MiB, 'z')
  const good = await daemon.addImage(Buffer.alloc(0), { size: body.length })
  const start = performance.now()
  t.equal((await request(daemon.remote, 'PUT', good.url, { body, timeoutMs: 30_000 })).status, 200)
  const reply = await request(daemon.remote, 'GET', good.url, { timeoutMs: 30_000 })
  const ms = Math.round(performance.now() - start)
  t.ok(reply.body.equals(body), `64 MiB up and down in ${ms} ms`)
  t.ok(ms < 20_000)
  const resident = daemon.residentSize()
  // buffer_memory is 1 GiB by default; the rest is Node and the sockets.
  t.ok(resident < 1500 * MiB, `${Math.round(resident / MiB)} MiB resident`)
  for (const wire of wires) wire.destroy()
  await until('all are gone', async () => (await daemon.ticket(image.id)).connections === 0)
  await daemon.ticketWhen(uploads.id, 'nothing runs', (info) => !info.active)
})
