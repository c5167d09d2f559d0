/** `ovirt-img upload-disk` and `download-disk`, call by call, the data included. */
import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import t, { type Test } from 'tap'
import { downloadFrom, ImageioClient, uploadTo } from '../../support/imageio-client.js'
import { A, inside, OVIRT_IMG_DISK, phaseOf, Sdk } from '../../support/sdk.js'
import { without } from '../../support/tools.js'
import { putFile, tag, type TransferSystem } from '../../support/transfers.js'
import { beginWith, compare, HARDWARE, MiB, startFlows, volume, type Begun } from './system.js'

const SIZE = 64 * MiB
const UUID = 'b98114f1-c58b-4534-985b-fdb57fe7d8a2'
const CENTERS = 'datacenters?case_sensitive=true&search=storage.name%3Dsd1'
const hostsOf = (center: string): string =>
  `hosts?case_sensitive=true&search=hw_id%3D${HARDWARE}+and+datacenter%3D${center}+and+status%3DUp`

/** Whole objects are posted back, with all attributes they had in the answers. */
function transferOf(direction: string, disk: string, host = ''): string {
  return `<image_transfer>
  <direction>${direction}</direction>
  <format>raw</format>
  <timeout_policy>cancel</timeout_policy>
${inside(disk)}${host === '' ? '' : inside(host)}</image_transfer>
`
}

/** What a client on a host of the data center looks for. */
async function findHost(t: Test, sdk: Sdk): Promise<string> {
  const center = tag(await sdk.get(CENTERS), 'name') ?? ''
  t.equal(center, 'Default')
  return /<host [^]*<\/host>/.exec(await sdk.get(hostsOf(center)))?.[0] ?? ''
}

async function hostName(sdk: Sdk, transfer: string): Promise<string> {
  const href = /<host href="([^"]+)"/.exec(transfer)?.[1] ?? 'none'
  return tag(await sdk.get(href), 'name') ?? ''
}

/** Steps 1 to 7. */
async function beginUpload(
  t: Test,
  system: TransferSystem,
  sdk: Sdk,
  body: string,
  { isOnHost = false } = {},
): Promise<Begun & { diskId: string }> {
  const disk = await sdk.add('disks', body)
  t.equal(tag(disk.text, 'status'), 'locked')
  await sdk.diskStatus(disk.id, 'ok')
  const host = isOnHost ? await findHost(t, sdk) : ''
  if (isOnHost) t.match(host, `<host href="${A}/hosts/456" id="456">`)
  const begun = await beginWith(system, sdk, transferOf('upload', disk.text, host))
  t.equal(tag(begun.text, 'timeout_policy'), 'cancel')
  t.equal(tag(begun.text, 'format'), 'raw')
  t.equal(await hostName(sdk, begun.text), 'host1')
  return { ...begun, diskId: disk.id }
}

const skip = without('qemu-img', 'qemu-nbd')

t.test('ovirt-img', { skip }, async (t) => {
  const system = await startFlows(t)
  const data = Buffer.concat([randomBytes(MiB), Buffer.alloc(SIZE - 2 * MiB), randomBytes(MiB)])
  const guest = putFile(system, 'guest', data)

  t.test('upload-disk of a qcow2 image, and download-disk of the disk', async (t) => {
    t.equal(OVIRT_IMG_DISK.length, 393)
    const sdk = await Sdk.open(t, system.target)
    const { id, url, diskId } = await beginUpload(t, system, sdk, OVIRT_IMG_DISK)
    await uploadTo(t, url, data)
    await sdk.finalized(id)
    await sdk.logout()
    await sdk.login()
    await compare(system, sdk, diskId, guest, 'qcow2')
    t.ok(statSync(await volume(system, sdk, diskId)).size < 8 * MiB, 'zeroes are not stored')

    const disk = await sdk.get(`disks/${diskId}`)
    t.match(disk, '<description>Uploaded by ovirt-img</description>')
    t.equal(tag(disk, 'provisioned_size'), String(SIZE))
    const domain = /<storage_domain href="([^"]+)"/.exec(disk)?.[1] ?? 'none'
    t.match(await sdk.get(domain), '<name>sd1</name>')
    const download = await beginWith(system, sdk, transferOf('download', disk))
    t.equal(await hostName(sdk, download.text), 'host1')
    t.ok((await downloadFrom(t, download.url, SIZE)).equals(data))
    await sdk.finalized(download.id)
    await sdk.diskStatus(diskId, 'ok')
    await sdk.logout()
  })

  t.test('on a host of the data center: its Unix socket', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const { id, url, diskId } = await beginUpload(t, system, sdk, OVIRT_IMG_DISK, {
      isOnHost: true,
    })
    const client = await ImageioClient.open(t, url, true)
    t.equal(client.options.unix_socket, system.daemon.localSocket)
    await client.upload(data)
    client.close()
    await sdk.finalized(id)
    await compare(system, sdk, diskId, guest, 'qcow2')
    t.match(await sdk.get(CENTERS.replace('sd1', 'none')), /^<data_centers\/>\s*$/)
    t.match(await sdk.get(hostsOf('Default').replace('4c4c', '5d5d')), /^<hosts\/>\s*$/)
  })

  t.test('a host that cannot be reached directly: through the proxy', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const { id, proxyUrl, diskId } = await beginUpload(t, system, sdk, OVIRT_IMG_DISK)
    await uploadTo(t, proxyUrl, data)
    await sdk.finalized(id)
    await compare(system, sdk, diskId, guest, 'qcow2')
  })

  const raw = (more: string): string =>
    OVIRT_IMG_DISK.replace(/ {2}<(backup|initial_size)>.*\n/g, '').replace('>cow<', '>raw<') + more

  for (const [name, body, format] of [
    ['-f raw', raw(''), 'raw'],
    ['-f raw --preallocated', raw('').replace('<sparse>true', '<sparse>false'), 'raw'],
    ['--preallocated', preallocated(OVIRT_IMG_DISK), 'qcow2'],
    ['--disk-id', OVIRT_IMG_DISK.replace('<disk>', `<disk id="${UUID}">`), 'qcow2'],
    ['of an ISO image', raw('').replace('>data<', '>iso<').replace('>true<', '>false<'), 'raw'],
    ['--name', OVIRT_IMG_DISK.replace('<name>img<', '<name>&lt;my&gt; "disk" ä<'), 'qcow2'],
  ] as const) {
    t.test(`upload-disk ${name}`, async (t) => {
      const sdk = await Sdk.open(t, system.target)
      const { id, url, diskId } = await beginUpload(t, system, sdk, body)
      if (name === '--disk-id') t.equal(diskId, UUID)
      await uploadTo(t, url, data)
      await sdk.finalized(id)
      await compare(system, sdk, diskId, guest, format)
      const path = await volume(system, sdk, diskId)
      if (body.includes('<sparse>false') && format === 'raw') {
        t.ok(statSync(path).blocks * 512 >= SIZE, 'preallocated')
      }
      const sent = tag(body, 'name')?.replaceAll('"', '')
      t.equal(tag(await sdk.get(`disks/${diskId}`), 'name')?.replaceAll(/"|&quot;/g, ''), sent)
      t.equal((await sdk.ask('DELETE', `disks/${diskId}`)).status, 200)
      await sdk.logout()
    })
  }

  t.test('an error while data moves: cancel, and the disk is gone', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const { id, url, diskId } = await beginUpload(t, system, sdk, OVIRT_IMG_DISK)
    const client = await ImageioClient.open(t, url)
    await client.upload(data.subarray(0, MiB))
    client.close()
    await sdk.acted(id, 'cancel')
    await sdk.logout()
    await sdk.phase(id, 'finished_failure')
    t.equal((await sdk.ask('GET', `disks/${diskId}`)).status, 404)
  })

  t.test('a daemon that does not run: paused_system, which the client cancels', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const disk = await sdk.add('disks', OVIRT_IMG_DISK)
    await sdk.diskStatus(disk.id, 'ok')
    system.daemon.process.kill('SIGKILL')
    await system.daemon.exited()
    const reply = await sdk.ask('POST', 'imagetransfers', transferOf('upload', disk.text))
    if (reply.status === 409) {
      t.match(reply.text, '<fault>', 'the host is known to be down')
      t.equal((await sdk.ask('DELETE', `disks/${disk.id}`)).status, 200)
    } else {
      const id = / id="([^"]+)"/.exec(reply.text)?.[1] ?? ''
      await sdk.phase(id, 'paused_system')
      await sdk.acted(id, 'cancel')
      t.not(phaseOf(await sdk.get(`imagetransfers/${id}`)), 'paused_system')
    }
    await system.restartDaemon(t)
  })
})

function preallocated(body: string): string {
  return body.replace(/ {2}<initial_size>.*\n/, '').replace('<sparse>true', '<sparse>false')
}
