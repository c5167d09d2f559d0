import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { openH2, request } from '../../support/http.js'
import { sleep } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const MiB = 1024 * 1024
const ROUNDS = 40
const HOST = 'Host: localhost\r\n'

/** Different moments of a transfer, the same ones in every run. */
const momentOf = (round: number): number => (round * 7) % 23

t.test('K. ends that come at any moment', async (t) => {
  const config = { logger_root: { level: 'INFO' }, control: { remove_timeout: 3 } }
  const daemon = await startDaemon(t, { config })
  const { file } = await daemon.addImage(Buffer.alloc(32 * MiB))

  t.test('197: a flowing download is canceled whenever DELETE comes', async (t) => {
    const statuses = new Set<number>()
    for (let round = 0; round < ROUNDS; round++) {
      const image = await daemon.addTicketFor(file, { size: 32 * MiB, ops: ['read'] })
      const target = round % 2 === 0 ? daemon.local : daemon.remote
      const wires = await Promise.all([1, 2, 3].map(() => Wire.open(target)))
      for (const wire of wires) void wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
      await sleep(momentOf(round))
      statuses.add((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status)
      for (const wire of wires) wire.destroy()
    }
    t.strictSame([...statuses], [204])
  })

  t.test('198: a flowing upload is canceled whenever DELETE comes', async (t) => {
    const statuses = new Set<number>()
    const body = Buffer.alloc(16 * MiB)
    for (let round = 0; round < ROUNDS; round++) {
      const image = await daemon.addImage(0, { size: body.length, ops: ['write'] })
      const target = round % 2 === 0 ? daemon.local : daemon.remote
      const upload = request(target, 'PUT', `${image.url}?flush=n`, { body }).catch(() => undefined)
      await sleep(momentOf(round))
      statuses.add((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status)
      await upload
    }
    t.strictSame([...statuses], [204])
  })

  t.test('77: a client may leave at any moment', async (t) => {
    const image = await daemon.addTicketFor(file, { size: 32 * MiB, ops: ['read', 'write'] })
    for (let round = 0; round < ROUNDS; round++) {
      if (round % 4 === 3) {
        const session = await openH2(daemon.remote)
        const streams = ['GET', 'PUT'].map((method) =>
          session.request({ ':method': method, ':path': image.url }).on('error', () => undefined),
        )
        streams[0]?.resume()
        streams[1]?.write(Buffer.alloc(MiB))
        await sleep(momentOf(round))
        session.destroy()
        continue
      }
      const wire = await Wire.open(round % 2 === 0 ? daemon.local : daemon.remote)
      void wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
      await sleep(momentOf(round))
      wire.destroy()
    }
    const isGone = (info: { active: boolean; connections: number }): boolean =>
      !info.active && info.connections === 0
    await daemon.ticketWhen(image.id, 'nothing is left', isGone)
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
  })
})
