/** nbds: STARTTLS, with the server's certificate checked. */
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MiB } from '../../../../core/units.js'
import { freePort } from '../../../support/daemon.js'
import { setEnvironment } from '../../../support/environment.js'
import { nbdkitTls } from '../../../support/nbd.js'
import { GREETING, pack, scriptedTcpServer } from '../../../support/nbd-script.js'
import { testPki } from '../../../support/pki.js'
import { without } from '../../../support/tools.js'
import { difference, pattern } from '../images.js'
import { openExport, read } from './exports.js'

const { caFile, certFile, keyFile } = testPki()
const refused = (message: RegExp) => ({ code: 'ERR_BACKEND_OPEN', statusCode: 500, message })

t.test('TLS servers', { skip: without('nbdkit') }, async (t) => {
  const certificates = t.testdir({})
  copyFileSync(caFile, join(certificates, 'ca-cert.pem'))
  copyFileSync(certFile, join(certificates, 'server-cert.pem'))
  copyFileSync(keyFile, join(certificates, 'server-key.pem'))
  const port = await freePort()
  await nbdkitTls(t, port, certificates, ['memory', '16M'])

  t.test('reads and writes through it', async (t) => {
    for (const host of ['127.0.0.1', 'localhost']) {
      const backend = await openExport(t, `nbds://${host}:${port}`, { caFile })
      const bytes = pattern(8 * MiB)
      await backend.pwrite(bytes, 12_345)
      await backend.flush()
      t.equal(difference(await read(backend, 12_345, bytes.length), bytes), undefined)
      await backend.close()
    }
  })

  t.test('a certificate of nobody we trust is refused', async (t) => {
    await t.rejects(openExport(t, `nbds://127.0.0.1:${port}`), refused(/certificate/))
    setEnvironment(t, 'NODE_TLS_REJECT_UNAUTHORIZED', '0')
    await t.rejects(openExport(t, `nbds://127.0.0.1:${port}`), refused(/certificate/))
    const missing = { caFile: '/nonexistent' }
    await t.rejects(openExport(t, `nbds://127.0.0.1:${port}`, missing), refused(/cannot be read/))
  })

  t.test('without TLS the server says what it wants', async (t) => {
    await t.rejects(openExport(t, `nbd://127.0.0.1:${port}`), refused(/wants TLS/))
  })
})

t.test('a server without TLS is not used in the clear', async (t) => {
  const port = await scriptedTcpServer(t, async (peer) => {
    await peer.handshake()
  })
  await t.rejects(openExport(t, `nbds://127.0.0.1:${port}`, { caFile }), refused(/offers no TLS/))
})

t.test('what comes in the clear behind the consent to TLS is not believed', async (t) => {
  const port = await scriptedTcpServer(t, async (peer) => {
    peer.send(GREETING)
    await peer.read(4)
    await peer.option()
    const magic = Buffer.from('0003e889045565a9', 'hex')
    peer.send(magic, 'u32', 5, 'u32', 1, 'u32', 0, pack(magic, 'u32', 8, 'u32', 1, 'u32', 0))
  })
  const opening = openExport(t, `nbds://127.0.0.1:${port}`, { caFile })
  await t.rejects(opening, { code: 'ERR_NBD_PROTOCOL', message: /data before TLS/ })
})
