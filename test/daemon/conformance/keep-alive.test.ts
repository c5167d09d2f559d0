/** Requests on a connection that is kept. */
import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { sleep, until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

const HOST = 'Host: h\r\n'
const SIZE = 16 * 1024 * 1024
const BODY = 'u'.repeat(200_000)
const UPLOADS = [
  `Content-Length: ${BODY.length}\r\n\r\n${BODY}`,
  `Transfer-Encoding: chunked\r\n\r\n${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`,
]

for (const native of ['on', 'off']) {
  t.test(`an upload behind a download that is not read yet: native = ${native}`, async (t) => {
    const daemon = await startDaemon(t, { config: { transport: { native } } })
    for (const target of [daemon.remote, daemon.local]) {
      for (const upload of UPLOADS) {
        const image = await daemon.addImage(SIZE)
        const wire = await Wire.open(target)
        wire.socket.once('data', () => wire.socket.pause())
        await wire.send(`GET ${image.url} HTTP/1.1\r\n${HOST}\r\n`)
        await until('the answer has begun', () => wire.size > 0)
        // By itself: it takes its time until the server has room for it.
        const sent = wire.send(`PUT ${image.url} HTTP/1.1\r\n${HOST}${upload}`)
        await sleep(100)
        wire.socket.resume()
        const download = await wire.response()
        await sent
        t.equal(download.body.length, SIZE)
        t.equal((await wire.response()).status, 200)
        t.equal(image.bytes().toString('latin1', 0, BODY.length), BODY)
        wire.destroy()
      }
    }
  })
}
