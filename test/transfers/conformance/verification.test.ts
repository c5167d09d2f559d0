/** What finalize finds in an upload, and the guest's data of a qcow2 disk through qemu-nbd. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { diskXml, putFile, startSystem, tag, type TransferSystem } from '../../support/transfers.js'
import { run, without } from '../../support/tools.js'

const MiB = 2 ** 20
const SIZE = 8 * MiB

t.test('verification', { skip: without('curl', 'qemu-img', 'qemu-nbd') }, async (t) => {
  const system = await startSystem(t, { transfers: { max_verifications: 1 } })
  const image = (...args: string[]) => run('qemu-img', args, { cwd: system.dir })
  const file = (name: string) => join(system.dir, name)

  /** Uploads the bytes of the file, and finalizes. */
  const uploaded = async (id: string, path: string, phase: string): Promise<string> => {
    const transfer = await system.transferring(`<disk id="${id}"/>`)
    t.equal((await system.upload(transfer.url, path)).status, 200)
    await system.act(transfer.id, 'finalize')
    return system.phase(transfer.id, phase)
  }

  t.test('a qcow2 image becomes a disk', async () => {
    const guest = putFile(system, 'guest.raw', randomBytes(SIZE))
    await image('convert', '-f', 'raw', '-O', 'qcow2', guest, 'good.qcow2')
    await addQcow2Disk(system, 'good', statSync(file('good.qcow2')).size)
    await uploaded('good', file('good.qcow2'), 'finished_success')
    const disk = await system.diskStatus('good', 'ok')
    t.equal(tag(disk, 'qcow_version'), 'qcow2_v3')
    await image('compare', '-f', 'qcow2', '-F', 'raw', volumeOf(system, disk), guest)
  })

  t.test('half of one does not, whatever the disk had before', async () => {
    const guest = putFile(system, 'other.raw', randomBytes(SIZE))
    await image('convert', '-f', 'raw', '-O', 'qcow2', guest, 'whole.qcow2')
    const whole = readFileSync(file('whole.qcow2'))
    await addQcow2Disk(system, 'used', whole.length)
    await uploaded('used', file('good.qcow2'), 'finished_success')
    for (const [disk, size] of [
      ['used', whole.length / 2],
      ['fresh', 512],
      ['fresher', 128 * 1024],
    ] as const) {
      if (disk !== 'used') await addQcow2Disk(system, disk, whole.length)
      putFile(system, 'part.qcow2', whole.subarray(0, size))
      await uploaded(disk, file('part.qcow2'), 'finished_failure')
      await system.diskStatus(disk, 'illegal')
    }
  })

  t.test('each of many gets its turn', async (t) => {
    await image('create', '-q', '-f', 'qcow2', 'small.qcow2', String(MiB))
    const ids = ['m1', 'm2', 'm3', 'm4']
    const transfers = await Promise.all(
      ids.map(async (id) => {
        await addQcow2Disk(system, id, MiB)
        const transfer = await system.transferring(`<disk id="${id}"/>`)
        t.equal((await system.upload(transfer.url, file('small.qcow2'))).status, 200)
        return transfer
      }),
    )
    await Promise.all(transfers.map(({ id }) => system.act(id, 'finalize')))
    await Promise.all(transfers.map(({ id }) => system.phase(id, 'finished_success')))
  })

  t.test('one with a backing file does not, and the disk is illegal', async (t) => {
    putFile(system, 'base.raw', Buffer.alloc(SIZE))
    await image('create', '-f', 'qcow2', '-b', file('base.raw'), '-F', 'raw', 'overlay.qcow2')
    await addQcow2Disk(system, 'overlay', MiB)
    const failed = await uploaded('overlay', file('overlay.qcow2'), 'finished_failure')
    t.match(tag(failed, 'description'), /^the image was refused: .*backing file/)
    const [, id = ''] = /<image_transfer [^>]*id="([^"]+)"/.exec(failed) ?? []
    const disk = await system.diskStatus('overlay', 'illegal')
    const volume = volumeOf(system, disk)
    t.ok(existsSync(volume), 'kept for a look')
    t.match(system.logText(), /backing file/)
    await system.stop()
    await system.start()
    t.equal((await system.get(`imagetransfers/${id}`)).text, failed, 'also after a restart')
    const json = (await system.get(`imagetransfers/${id}`, '-H', 'Accept: application/json')).text
    t.match(JSON.parse(json), { description: /backing file/ })
    const again = '<image_transfer><disk id="overlay"/></image_transfer>'
    await t.rejects(system.post('imagetransfers', again), /409/)
    t.equal((await system.curl('-X', 'DELETE', `${system.url}/disks/overlay`)).status, 200)
    t.equal((await system.get('disks/overlay')).status, 404)
    t.notOk(existsSync(volume))
  })

  t.test('neither does what is no qcow2 image', async () => {
    await addQcow2Disk(system, 'noise', MiB)
    const noise = putFile(system, 'noise', randomBytes(MiB))
    await uploaded('noise', noise, 'finished_failure')
    await system.diskStatus('noise', 'illegal')
  })

  t.test('neither does an image that is larger than the disk', async () => {
    await image('create', '-f', 'qcow2', 'large.qcow2', String(2 * SIZE))
    await addQcow2Disk(system, 'large', MiB)
    await uploaded('large', file('large.qcow2'), 'finished_failure')
    await system.diskStatus('large', 'illegal')
  })

  t.test('an image that no disk has is never replaced', async (t) => {
    const data = randomBytes(MiB)
    const file = putFile(system, 'images/precious', data)
    const disk = '<disk id="p"><image_id>precious</image_id><format>raw</format>'
    const body = `${disk}<provisioned_size>${MiB}</provisioned_size></disk>`
    await t.rejects(system.post('disks', body), /409.*has an image of this image_id/s)
    t.equal((await system.get('disks/p')).status, 404)
    t.ok(readFileSync(file).equals(data))
  })

  t.test('format raw: guest data of a qcow2 disk, in both directions', async (t) => {
    const data = Buffer.concat([randomBytes(3 * MiB), Buffer.alloc(2 * MiB), randomBytes(3 * MiB)])
    const guest = putFile(system, 'guest2.raw', data)
    await addQcow2Disk(system, 'guest', MiB)
    const up = await system.transferring('<disk id="guest"/><format>raw</format>')
    t.equal((await system.upload(up.url, guest)).status, 200)
    await system.act(up.id, 'finalize')
    await system.phase(up.id, 'finished_success')
    const disk = await system.diskStatus('guest', 'ok')
    const volume = volumeOf(system, disk)
    t.match(JSON.parse(await image('info', '--output=json', volume)), { format: 'qcow2' })
    await image('compare', '-f', 'qcow2', '-F', 'raw', volume, guest)

    const download = '<disk id="guest"/><format>raw</format><direction>download</direction>'
    const down = await system.transferring(download)
    for (const url of [down.url, down.proxyUrl]) {
      t.equal((await system.download(url, file('back.raw'))).status, 200)
      t.ok(readFileSync(file('back.raw')).equals(data))
    }
    await system.act(down.id, 'finalize')
    await system.phase(down.id, 'finished_success')

    const bytes = await system.transferring('<disk id="guest"/><direction>download</direction>')
    t.equal((await system.download(bytes.url, file('back.qcow2'))).status, 200)
    t.ok(readFileSync(file('back.qcow2')).equals(readFileSync(volume)), 'the bytes of the file')
    await system.act(bytes.id, 'finalize')
    await system.phase(bytes.id, 'finished_success')
  })

  t.test('many pieces of a guest’s data at once, by the proxy', async (t) => {
    const guest = randomBytes(SIZE)
    await addQcow2Disk(system, 'pieces', MiB)
    const up = await system.transferring('<disk id="pieces"/><format>raw</format>')
    const count = 16
    const size = SIZE / count
    const pieces = Array.from({ length: count }, async (_, index) => {
      const piece = putFile(
        system,
        `piece${index}`,
        guest.subarray(index * size, (index + 1) * size),
      )
      const range = `Content-Range: bytes ${index * size}-${(index + 1) * size - 1}/*`
      return (await system.curl('-T', piece, '-H', range, up.proxyUrl)).status
    })
    t.same(await Promise.all(pieces), Array(count).fill(200))
    await system.act(up.id, 'finalize')
    await system.phase(up.id, 'finished_success')
    const volume = volumeOf(system, await system.diskStatus('pieces', 'ok'))
    await image('compare', '-f', 'qcow2', '-F', 'raw', volume, putFile(system, 'whole.raw', guest))
  })

  t.test('format raw: also beyond the end of a smaller image that the disk has', async (t) => {
    const begun = randomBytes(MiB)
    putFile(system, 'short.raw', begun)
    await image('convert', '-f', 'raw', '-O', 'qcow2', 'short.raw', 'short.qcow2')
    await addQcow2Disk(system, 'short', MiB)
    await uploaded('short', file('short.qcow2'), 'finished_success')
    const { id, url } = await system.transferring('<disk id="short"/><format>raw</format>')
    const range = `Content-Range: bytes ${SIZE - MiB}-${SIZE - 1}/*`
    t.equal((await system.upload(url, file('short.raw'), '-H', range)).status, 200)
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const guest = Buffer.concat([begun, Buffer.alloc(SIZE - 2 * MiB), begun])
    const volume = volumeOf(system, await system.diskStatus('short', 'ok'))
    await image('compare', '-f', 'qcow2', '-F', 'raw', volume, putFile(system, 'g.raw', guest))
  })

  t.test('format raw: an image that cannot be as large as its disk', async (t) => {
    await image('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', 'old.qcow2', String(MiB))
    await image('snapshot', '-c', 'kept', 'old.qcow2')
    await addQcow2Disk(system, 'old', MiB)
    await uploaded('old', file('old.qcow2'), 'finished_success')
    const body = '<image_transfer><disk id="old"/><format>raw</format></image_transfer>'
    const [, id = ''] =
      /<image_transfer [^>]*id="([^"]+)"/.exec(await system.post('imagetransfers', body)) ?? []
    const paused = await system.phase(id, 'paused_system')
    t.match(tag(paused, 'description'), /the volume cannot be grown to the size of the disk: qemu-/)
    await system.act(id, 'cancel')
    await system.phase(id, 'finished_failure')
  })
})

async function addQcow2Disk(system: TransferSystem, id: string, initial: number): Promise<void> {
  await system.post('disks', diskXml(id, 'cow', SIZE, initial))
  await system.diskStatus(id, 'ok')
}

function volumeOf(system: TransferSystem, disk: string): string {
  return join(system.images, tag(disk, 'image_id') ?? '')
}
