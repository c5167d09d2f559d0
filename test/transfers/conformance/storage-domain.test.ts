/** A storage domain whose file system is not mounted. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { without } from '../../support/tools.js'
import { diskXml, putFile, startSystem, tag } from '../../support/transfers.js'
import { until } from '../../support/wait.js'

const SIZE = 2 ** 20

t.test(
  'what needs an unmounted domain waits or is refused',
  { skip: without('curl') },
  async (t) => {
    const system = await startSystem(t)
    const data = randomBytes(SIZE)
    const file = putFile(system, 'data', data)
    for (const id of ['full', 'empty']) await system.addDisk(id, 'raw', SIZE)
    const { id, url } = await system.transferring('<disk id="full"/>')
    t.equal((await system.upload(url, file)).status, 200)
    t.ok(readdirSync(system.images).includes('.imageio-domain'))

    renameSync(system.images, `${system.images}.away`)
    mkdirSync(system.images)
    await until('it is noticed', () => system.logText().includes('storage domain is not active'))
    t.match((await system.get('storagedomains')).text, '<status>inactive</status>')
    await t.rejects(system.post('disks', diskXml('new', 'raw', SIZE)), /409.*not mounted/s)
    const empty = '<image_transfer><disk id="empty"/></image_transfer>'
    await t.rejects(system.post('imagetransfers', empty), /409.*not mounted/s)
    const removed = await system.curl('-X', 'DELETE', `${system.url}/disks/empty`)
    t.equal(removed.status, 409)
    t.match(removed.text, /not mounted/)
    await system.act(id, 'finalize')
    await system.phase(id, 'finalizing_success')
    // Not even a service that starts now takes the directory for a new one.
    await system.stop()
    await system.start()
    await system.phase(id, 'finalizing_success')
    t.strictSame(readdirSync(system.images), [], 'nothing was made in its place')

    rmdirSync(system.images)
    renameSync(`${system.images}.away`, system.images)
    await system.phase(id, 'finished_success')
    const disk = await system.diskStatus('full', 'ok')
    t.ok(readFileSync(join(system.images, tag(disk, 'image_id') ?? '')).equals(data))
    await system.diskStatus('empty', 'ok')
    t.equal((await system.curl('-X', 'DELETE', `${system.url}/disks/empty`)).status, 200)
  },
)
