/** The example programs of the SDK: uploads, downloads, checksums, snapshots. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { downloadFrom, ImageioClient, uploadTo } from '../../support/imageio-client.js'
import { Sdk, transferXml } from '../../support/sdk.js'
import { without } from '../../support/tools.js'
import { DOMAIN_ID, putFile, tag } from '../../support/transfers.js'
import { begin, beginWith, compare, MiB, startFlows } from './system.js'

const SIZE = 8 * MiB

const DISK = `<disk>
  <backup>incremental</backup>
  <content_type>data</content_type>
  <description>Uploaded disk</description>
  <format>cow</format>
  <initial_size>${SIZE}</initial_size>
  <name>disk.cow</name>
  <provisioned_size>${SIZE}</provisioned_size>
  <sparse>true</sparse>
  <storage_domains>
    <storage_domain>
      <name>sd1</name>
    </storage_domain>
  </storage_domains>
</disk>
`

const uploadOf = (id: string): string => `<image_transfer>
  <direction>upload</direction>
  <format>raw</format>
  <inactivity_timeout>120</inactivity_timeout>
  <timeout_policy>cancel</timeout_policy>
  <disk id="${id}"/>
</image_transfer>
`

const downloadOf = (id: string, policy = 'cancel'): string[] => [
  '<direction>download</direction>',
  '<format>raw</format>',
  `<timeout_policy>${policy}</timeout_policy>`,
  `<disk id="${id}"/>`,
]

const skip = without('qemu-img', 'qemu-nbd')

t.test('the example programs', { skip }, async (t) => {
  const system = await startFlows(t)
  const data = Buffer.concat([randomBytes(MiB), Buffer.alloc(6 * MiB), randomBytes(MiB)])
  const guest = putFile(system, 'guest', data)
  let diskId = ''

  t.test('upload_disk.py', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const disk = await sdk.add('disks', DISK)
    diskId = disk.id
    await sdk.diskStatus(diskId, 'ok')
    const { id, text, url } = await beginWith(system, sdk, uploadOf(diskId))
    t.equal(tag(text, 'inactivity_timeout'), '120')
    const host = /<host href="[^"]+" id="([^"]+)"/.exec(text)?.[1] ?? 'none'
    t.match(await sdk.get(`hosts/${host}`), '<name>host1</name>')
    await uploadTo(t, url, data)
    await sdk.finalized(id)
    await sdk.logout()
    await compare(system, await Sdk.open(t, system.target), diskId, guest, 'qcow2')
  })

  t.test('upload_disk.py that fails in the middle cancels', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const disk = await sdk.add('disks', DISK)
    await sdk.diskStatus(disk.id, 'ok')
    const { id, url } = await beginWith(system, sdk, uploadOf(disk.id))
    await uploadTo(t, url, data.subarray(0, MiB))
    await sdk.acted(id, 'cancel')
    await sdk.phase(id, 'finished_failure')
    t.equal((await sdk.ask('GET', `disks/${disk.id}`)).status, 404)
  })

  t.test('download_disk.py, and with --use-proxy', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const disk = await sdk.get(`disks/${diskId}`)
    const domain = /<storage_domain href="[^"]+" id="([^"]+)"/.exec(disk)?.[1] ?? 'none'
    t.match(await sdk.get(`storagedomains/${domain}`), '<name>sd1</name>')
    for (const isProxy of [false, true]) {
      const { id, url, proxyUrl } = await begin(system, sdk, ...downloadOf(diskId))
      t.match(await sdk.get('hosts/456'), '<name>host1</name>')
      t.ok((await downloadFrom(t, isProxy ? proxyUrl : url, SIZE)).equals(data))
      await sdk.finalized(id)
    }
  })

  t.test('checksum_disk.py', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const { id, url, proxyUrl } = await begin(system, sdk, ...downloadOf(diskId, 'legacy'))
    const sums = []
    for (const from of [url, proxyUrl]) {
      const client = await ImageioClient.open(t, from)
      sums.push(await client.checksum())
      client.close()
    }
    t.match(sums[0], { algorithm: 'blake2b', checksum: /^[0-9a-f]{64}$/ })
    t.strictSame(sums[0], sums[1])
    await sdk.finalized(id)
  })

  t.test('image_transfer.py reads now and then, also of an upload', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    for (const direction of ['download', 'upload']) {
      const lines = downloadOf(diskId).map((line) => line.replace('download', direction))
      const { id, url } = await begin(system, sdk, ...lines)
      const client = await ImageioClient.open(t, url)
      for (let turn = 0; turn < 2; turn++) {
        t.ok((await client.read(0, 4096)).equals(data.subarray(0, 4096)), direction)
      }
      client.close()
      await sdk.finalized(id)
      await sdk.diskStatus(diskId, 'ok')
    }
  })

  t.test('download_disk_snapshot.py', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const snapshot = tag(await sdk.get(`disks/${diskId}`), 'image_id') ?? ''
    t.match(await sdk.get('storagedomains?search=name%3Dsd1'), `id="${DOMAIN_ID}"`)
    const shown = await sdk.get(`storagedomains/${DOMAIN_ID}/disksnapshots/${snapshot}`)
    t.match(shown, `<disk href="/ovirt-engine/api/disks/${diskId}" id="${diskId}"/>`)
    for (const shallow of ['true', 'false']) {
      const { id, text, url } = await begin(
        system,
        sdk,
        '<direction>download</direction>',
        '<format>raw</format>',
        `<shallow>${shallow}</shallow>`,
        '<timeout_policy>cancel</timeout_policy>',
        `<snapshot id="${snapshot}"/>`,
      )
      t.equal(tag(text, 'shallow'), shallow)
      t.ok((await downloadFrom(t, url, SIZE)).equals(data))
      await sdk.finalized(id)
    }
    await sdk.diskStatus(diskId, 'ok')
  })

  t.test('cancel_transfer.py', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const { id } = await begin(system, sdk, ...downloadOf(diskId))
    const other = await Sdk.open(t, system.target)
    await other.acted(id, 'cancel')
    await other.logout()
    await sdk.phase(id, 'finished_failure')
    await sdk.diskStatus(diskId, 'ok')
  })
})

t.test('a transfer that was forgotten: 404, and the disk tells how it ended', async (t) => {
  const retention = { success_retention: 1, failure_retention: 1, cleanup_interval: 1 }
  const system = await startFlows(t, { transfers: retention })
  const sdk = await Sdk.open(t, system.target)
  const disk = await sdk.add('disks', DISK.replace('>cow<', '>raw<').replace(/.*backup.*\n/, ''))
  await sdk.diskStatus(disk.id, 'ok')
  const { id } = await sdk.add('imagetransfers', transferXml(`<disk id="${disk.id}"/>`))
  await sdk.phase(id, 'transferring')
  await sdk.acted(id, 'finalize')
  await sdk.gone(id)
  t.match(await sdk.get(`disks/${disk.id}`), '<status>ok</status>')
})
