/** Pause, resume, extend, cancel. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { putFile, startSystem, tag, type TransferSystem } from '../../support/transfers.js'
import { without } from '../../support/tools.js'

const MiB = 2 ** 20
const SIZE = 4 * MiB
const skip = without('curl')

t.test('actions', { skip }, async (t) => {
  const system = await startSystem(t)
  const file = putFile(system, 'data', randomBytes(SIZE))

  t.test('pause, resume and extend; the URL stays', async (t) => {
    await system.addDisk('paused', 'raw', SIZE)
    const { id, url } = await system.transferring('<disk id="paused"/>')
    await system.act(id, 'pause')
    await system.phase(id, 'paused_user')
    await system.act(id, 'resume')
    t.equal(system.seen(id, await system.phase(id, 'transferring')).url, url)
    await system.act(id, 'extend')
    t.equal((await system.upload(url, file)).status, 200)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    await system.diskStatus('paused', 'ok')
  })

  t.test('cancel removes the partial image', async (t) => {
    await system.addDisk('cancelled', 'raw', SIZE)
    const volume = volumeOf(system, await system.diskStatus('cancelled', 'ok'))
    const { id, url } = await system.transferring('<disk id="cancelled"/>')
    t.equal((await system.upload(url, file)).status, 200)
    await system.act(id, 'cancel')
    await system.phase(id, 'finished_failure')
    t.equal((await system.get('disks/cancelled')).status, 404)
    t.notOk(existsSync(volume))
    t.equal((await system.upload(url, file)).status, 403)
  })

  t.test('without data an upload is paused, a download is cancelled', async (t) => {
    await system.addDisk('idle', 'raw', SIZE)
    const idle = '<inactivity_timeout>3</inactivity_timeout>'
    const { id, url } = await system.transferring(`<disk id="idle"/>${idle}`)
    await system.phase(id, 'paused_system')
    await system.diskStatus('idle', 'locked')
    await system.act(id, 'resume')
    await system.phase(id, 'transferring')
    t.equal((await system.upload(url, file)).status, 200)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const download = `<disk id="idle"/>${idle}<direction>download</direction>`
    await system.phase((await system.transferring(download)).id, 'finished_failure')
    await system.diskStatus('idle', 'ok')
  })

  t.test('a disk that grows keeps its data, and has zeroes behind it', async (t) => {
    const put = (id: string, body: string) =>
      system.curl('-X', 'PUT', '-d', body, `${system.url}/disks/${id}`)
    const busy = await system.transferring('<disk id="paused"/><direction>download</direction>')
    const size = `<provisioned_size>${SIZE + MiB}</provisioned_size>`
    t.equal((await put('paused', `<disk>${size}</disk>`)).status, 409, 'while it is in use')
    await system.act(busy.id, 'finalize')
    await system.phase(busy.id, 'finished_success')
    const { status, text } = await put('paused', `<disk><name>larger</name>${size}</disk>`)
    t.equal(status, 200)
    t.equal(tag(text, 'name'), 'larger')
    t.equal(tag(text, 'status'), 'ok')
    t.equal(tag(text, 'provisioned_size'), String(SIZE + MiB))
    const { id, url } = await system.transferring(
      '<disk id="paused"/><direction>download</direction>',
    )
    const copy = join(system.dir, 'copy')
    t.equal((await system.download(url, copy)).status, 200)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    t.ok(readFileSync(copy).equals(Buffer.concat([readFileSync(file), Buffer.alloc(MiB)])))
    t.equal(
      (await put('paused', '<disk><provisioned_size>1</provisioned_size></disk>')).status,
      409,
    )
  })

  t.test('a cancelled download leaves the disk as it was', async (t) => {
    const { id } = await system.transferring('<disk id="paused"/><direction>download</direction>')
    await system.act(id, 'cancel')
    await system.phase(id, 'finished_failure')
    const disk = await system.diskStatus('paused', 'ok')
    t.ok(readFileSync(volumeOf(system, disk)).subarray(0, SIZE).equals(readFileSync(file)))
  })
})

function volumeOf(system: TransferSystem, disk: string): string {
  return join(system.images, tag(disk, 'image_id') ?? '')
}
