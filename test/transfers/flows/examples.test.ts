/** The examples of the documentation with the SDK: upload, download, and the actions. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { downloadFrom, ImageioClient, putFileTo, uploadTo } from '../../support/imageio-client.js'
import { A, phaseOf, Sdk, transferXml } from '../../support/sdk.js'
import { run, without } from '../../support/tools.js'
import { putFile } from '../../support/transfers.js'
import { addDisk, begin, compare, MiB, startFlows, volume } from './system.js'

const SIZE = 4 * MiB
const UPLOAD = '<image_transfer>\n  <disk id="123"/>\n</image_transfer>\n'
const ON_HOST = '<image_transfer>\n  <disk id="123"/>\n  <host id="456"/>\n</image_transfer>\n'
const DOWNLOAD =
  '<image_transfer>\n  <direction>download</direction>\n  <disk id="123"/>\n</image_transfer>\n'

t.test('the examples', async (t) => {
  const system = await startFlows(t)
  const sdk = await Sdk.open(t, system.target)
  const data = Buffer.concat([randomBytes(MiB), Buffer.alloc(2 * MiB), randomBytes(MiB)])
  await addDisk(sdk, '123', SIZE)

  for (const [name, body] of [
    ['any host', UPLOAD],
    ['host 456', ON_HOST],
  ] as const) {
    t.test(`upload of disk 123 on ${name}`, async (t) => {
      const { id, text } = await sdk.add('imagetransfers', body)
      t.match(text, '<direction>upload</direction>')
      t.match(text, `<disk href="${A}/disks/123" id="123"/>`)
      const now = await sdk.phase(id, 'transferring')
      t.match(now, `<host href="${A}/hosts/456" id="456"/>`)
      t.notMatch(now, 'rel="host"')
      const { url, proxyUrl } = system.seen(id, now)
      t.equal(new URL(url).origin, system.daemon.url, 'the daemon of that host')
      t.equal(new URL(proxyUrl).origin, system.proxy.url)
      await uploadTo(t, url, data)
      const done = await sdk.finalized(id)
      t.notMatch(done, '<transfer_url>', 'URLs go with the ticket')
      t.ok(readFileSync(await volume(system, sdk, '123')).equals(data))
      await sdk.diskStatus('123', 'ok')
    })
  }

  t.test('download, which finalize ends as well', async (t) => {
    const { id, text } = await sdk.add('imagetransfers', DOWNLOAD)
    t.match(text, '<direction>download</direction>')
    const { url, proxyUrl } = system.seen(id, await sdk.phase(id, 'transferring'))
    t.ok((await downloadFrom(t, url, SIZE)).equals(data))
    t.ok((await downloadFrom(t, proxyUrl, SIZE)).equals(data))
    await sdk.finalized(id)
    await sdk.diskStatus('123', 'ok')
  })

  t.test('pause, resume, extend: the URL stays, and works while paused', async (t) => {
    const { id, url } = await begin(system, sdk, '<disk id="123"/>')
    const refused = await sdk.act(id, 'resume')
    t.equal(refused.status, 409)
    t.match(refused.text, /<fault>[^]*<detail>[^]*<reason>/)
    await sdk.acted(id, 'pause')
    await sdk.phase(id, 'paused_user')
    const client = await ImageioClient.open(t, url)
    await client.upload(data.subarray(0, MiB))
    await sdk.acted(id, 'resume')
    t.match(phaseOf(await sdk.get(`imagetransfers/${id}`)), /^(resuming|transferring)$/)
    t.equal(system.seen(id, await sdk.phase(id, 'transferring')).url, url)
    await sdk.acted(id, 'extend')
    t.equal(phaseOf(await sdk.get(`imagetransfers/${id}`)), 'transferring')
    await client.upload(data)
    client.close()
    await sdk.finalized(id)
    t.ok(readFileSync(await volume(system, sdk, '123')).equals(data))
  })

  t.test('cancel of a download leaves the disk, of an upload removes it', async (t) => {
    const download = await begin(system, sdk, '<direction>download</direction>', '<disk id="123"/>')
    const refused = await sdk.act(download.id, 'pause')
    t.equal(refused.status, 400)
    t.match(refused.text, '<fault>')
    await sdk.acted(download.id, 'cancel')
    await sdk.phase(download.id, 'finished_failure')
    await sdk.diskStatus('123', 'ok')
    const path = await volume(system, sdk, '123')
    const upload = await begin(system, sdk, '<disk id="123"/>')
    await sdk.acted(upload.id, 'cancel')
    t.match(
      phaseOf(await sdk.get(`imagetransfers/${upload.id}`)),
      /^(cancelled|finalizing|finished)_/,
    )
    await sdk.phase(upload.id, 'finished_failure')
    t.equal((await sdk.ask('GET', 'disks/123')).status, 404)
    t.notOk(existsSync(path))
    for (const action of ['cancel', 'finalize', 'extend']) await sdk.acted(upload.id, action)
    t.equal(phaseOf(await sdk.get(`imagetransfers/${upload.id}`)), 'finished_failure')
  })
  t.test('logout', () => sdk.logout())
})

/** What becomes of an upload: by disk, the transfer's format, and who uploads. */
const UPLOADS = [
  ['raw', 'absent', 'library', 'ok'],
  ['raw', 'absent', 'qcow2 file', 'refused'],
  ['cow', 'absent', 'library', 'refused'],
  ['cow', 'absent', 'qcow2 file', 'ok'],
  ['raw', 'raw', 'library', 'ok'],
  ['raw', 'raw', 'qcow2 file', 'refused'],
  ['cow', 'raw', 'library', 'ok'],
  ['cow', 'raw', 'qcow2 file', 'useless'],
] as const

const skip = without('qemu-img', 'qemu-nbd')

t.test('eight ways to upload: disk, format, client', { skip }, async (t) => {
  const system = await startFlows(t)
  const sdk = await Sdk.open(t, system.target)
  const data = Buffer.concat([randomBytes(MiB), Buffer.alloc(3 * MiB)])
  const guest = putFile(system, 'guest', data)
  const image = join(system.dir, 'image.qcow2')
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', guest, image])
  for (const [index, [disk, format, client, result]] of UPLOADS.entries()) {
    t.test(`${disk} disk, format ${format}, by ${client}: ${result}`, async (t) => {
      const id = `disk-${index}`
      await addDisk(sdk, id, SIZE, disk)
      const lines = format === 'raw' ? ['<format>raw</format>'] : []
      const { id: transfer, url } = await begin(system, sdk, ...lines, `<disk id="${id}"/>`)
      if (client === 'library') await uploadTo(t, url, data)
      else await putFileTo(t, url, image)
      if (result === 'refused') {
        await sdk.finalized(transfer, 'finished_failure')
        await sdk.diskStatus(id, 'illegal')
        return
      }
      await sdk.finalized(transfer)
      await sdk.diskStatus(id, 'ok')
      const isCow = disk === 'cow'
      const same = compare(system, sdk, id, guest, isCow ? 'qcow2' : 'raw')
      await (result === 'ok' ? same : t.rejects(same))
    })
  }
})

/** Phase after two idle seconds: by policy, of uploads and downloads. */
const IDLE = [
  [undefined, 'paused_system', 'finished_failure'],
  ['legacy', 'paused_system', 'finished_failure'],
  ['pause', 'paused_system', 'paused_system'],
  ['cancel', 'finished_failure', 'finished_failure'],
] as const

t.test('transfers that nobody uses, by policy', async (t) => {
  const system = await startFlows(t)
  const sdk = await Sdk.open(t, system.target)
  const waiting = IDLE.flatMap(([policy, upload, download]) => [
    { policy, direction: 'upload', phase: upload },
    { policy, direction: 'download', phase: download },
  ])
  const begun: { id: string; diskId: string; direction: string; phase: string }[] = []
  for (const { policy, direction, phase } of waiting) {
    const diskId = `${policy ?? 'absent'}-${direction}`
    await addDisk(sdk, diskId, MiB)
    const lines = [
      `<direction>${direction}</direction>`,
      '<inactivity_timeout>2</inactivity_timeout>',
      ...(policy === undefined ? [] : [`<timeout_policy>${policy}</timeout_policy>`]),
      `<disk id="${diskId}"/>`,
    ]
    const { id } = await sdk.add('imagetransfers', transferXml(...lines))
    begun.push({ id, diskId, direction, phase })
  }
  for (const { id, diskId, direction, phase } of begun) {
    t.test(`${diskId} ends in ${phase}`, async (t) => {
      const text = await sdk.phase(id, phase)
      if (phase === 'paused_system') {
        await sdk.diskStatus(diskId, 'locked')
        await sdk.acted(id, 'resume')
        await sdk.phase(id, 'transferring')
        const { url } = system.seen(id, text)
        const client = await ImageioClient.open(t, url)
        for (let look = 0; look < 20; look++) {
          t.equal(await client.sendOptions(), 200)
          t.equal(phaseOf(await sdk.get(`imagetransfers/${id}`)), 'transferring')
        }
        client.close()
        await sdk.finalized(id)
        await sdk.diskStatus(diskId, 'ok')
      } else if (direction === 'download') {
        await sdk.diskStatus(diskId, 'ok')
      } else {
        t.equal((await sdk.ask('GET', `disks/${diskId}`)).status, 404)
      }
    })
  }
})
