/** A host whose daemon is controlled over TLS, as on another machine. */
import { randomBytes } from 'node:crypto'
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { freePort } from '../../support/daemon.js'
import { clientCertificate, testPki } from '../../support/pki.js'
import { without } from '../../support/tools.js'
import { putFile, startSystem, tag } from '../../support/transfers.js'
import { until } from '../../support/wait.js'

const SIZE = 2 ** 20

t.test('an upload to a host that is controlled over TLS', { skip: without('curl') }, async (t) => {
  const port = await freePort()
  const { certFile, keyFile } = clientCertificate(testPki(), '/CN=transfers')
  const system = await startSystem(t, {
    daemon: {
      control: {
        ...{ transport: 'tls', host: '127.0.0.1', port },
        ...{ ca_file: testPki().caFile, allowed_clients: 'transfers' },
      },
    },
    transfers: { local_host: false, control_cert_file: certFile, control_key_file: keyFile },
    sections: (daemon) => ({
      host_two: {
        id: 'two',
        control_url: `https://127.0.0.1:${port}`,
        transfer_url: daemon.url,
      },
    }),
  })
  const file = putFile(system, 'data', randomBytes(SIZE))
  await system.addDisk('d', 'raw', SIZE)
  const { id, url } = await system.transferring('<disk id="d"/><host id="two"/>')
  t.equal((await system.upload(url, file)).status, 200)
  await system.act(id, 'finalize')
  await system.phase(id, 'finished_success')
  const image = tag(await system.diskStatus('d', 'ok'), 'image_id') ?? ''
  t.ok(readFileSync(join(system.images, image)).equals(readFileSync(file)))

  const again = await system.transferring('<disk id="d"/><host id="two"/><format>raw</format>')
  t.equal((await system.upload(again.url, file)).status, 200, 'of a raw disk it has the file')
  await system.act(again.id, 'finalize')
  await system.phase(again.id, 'finished_success')
  await system.addDisk('q', 'cow', SIZE)
  const guestData =
    '<image_transfer><disk id="q"/><host id="two"/><format>raw</format></image_transfer>'
  await t.rejects(system.post('imagetransfers', guestData), /409/, 'it has no NBD servers of ours')
})

t.test('SIGHUP takes other certificates for hosts', { skip: without('curl') }, async (t) => {
  const port = await freePort()
  const dir = t.testdir({})
  const [certFile, keyFile] = [join(dir, 'cert.pem'), join(dir, 'key.pem')]
  const use = (name: string): void => {
    const made = clientCertificate(testPki(), `/CN=${name}`)
    copyFileSync(made.certFile, certFile)
    copyFileSync(made.keyFile, keyFile)
  }
  use('stranger')
  const system = await startSystem(t, {
    daemon: {
      control: {
        ...{ transport: 'tls', host: '127.0.0.1', port },
        ...{ ca_file: testPki().caFile, allowed_clients: 'transfers' },
      },
    },
    transfers: { local_host: false, control_cert_file: certFile, control_key_file: keyFile },
    sections: (daemon) => ({
      host_two: {
        id: 'two',
        control_url: `https://127.0.0.1:${port}`,
        transfer_url: daemon.url,
      },
    }),
  })
  const status = async () => tag((await system.get('hosts/two')).text, 'status')
  t.not(await status(), 'up')
  use('transfers')
  await system.reload()
  await until('the host is up', async () => (await status()) === 'up')

  copyFileSync(testPki('other').keyFile, keyFile)
  const begin = system.logText().length
  system.signal('SIGHUP')
  await until('the mistake is told', () =>
    system.logText().slice(begin).includes('cannot reload, going on as before'),
  )
  t.equal(await status(), 'up')
  await system.addDisk('d', 'raw', SIZE)
  const { id } = await system.transferring('<disk id="d"/>')
  await system.act(id, 'cancel')
})
