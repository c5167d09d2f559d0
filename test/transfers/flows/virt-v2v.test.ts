/** `virt-v2v -o rhv-upload`: seven programs, each with a login of its own, some without a logout. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { uploadTo } from '../../support/imageio-client.js'
import { inside, phaseOf, Sdk } from '../../support/sdk.js'
import { without } from '../../support/tools.js'
import { putFile, tag } from '../../support/transfers.js'
import { beginWith, compare, HARDWARE, MiB, startFlows } from './system.js'

const SIZE = 4 * MiB
const RAW = 'b98114f1-c58b-4534-985b-fdb57fe7d8a2'
const COW = 'b98114f1-c58b-4534-985b-fdb57fe7d8a3'
const CENTERS = 'datacenters?case_sensitive=true&search=storage.name%3D'

const diskOf = (id: string, format: string): string => `<disk id="${id}">
  <description>Uploaded by virt-v2v</description>
  <format>${format}</format>
  <initial_size>${SIZE}</initial_size>
  <name>myvm-000</name>
  <provisioned_size>${SIZE}</provisioned_size>
  <sparse>true</sparse>
  <storage_domains>
    <storage_domain>
      <name>sd1</name>
    </storage_domain>
  </storage_domains>
</disk>
`

const transferOf = (id: string, host = ''): string => `<image_transfer>
  <format>raw</format>
  <inactivity_timeout>3600</inactivity_timeout>
  <disk id="${id}"/>
${host}</image_transfer>
`

const skip = without('qemu-img', 'qemu-nbd')

t.test('virt-v2v', { skip }, async (t) => {
  const system = await startFlows(t)
  const data = Buffer.concat([randomBytes(MiB), Buffer.alloc(2 * MiB), randomBytes(MiB)])
  const guest = putFile(system, 'guest', data)
  // The user in the URL: libcurl sends it, without a password, to the SSO.
  const basic = `Authorization: Basic ${Buffer.from('admin@internal:').toString('base64')}\r\n`
  const program = () => Sdk.open(t, system.target, { ssoHeaders: basic })
  const transfers: string[] = []

  t.test('precheck: data center, its domains and clusters, no such disks', async (t) => {
    const sdk = await program()
    const center = await sdk.get(`${CENTERS}sd1`)
    const linked = (rel: string): Promise<string> =>
      sdk.get(new RegExp(`<link href="([^"]+)" rel="${rel}"`).exec(center)?.[1] ?? 'none')
    t.match(await linked('storagedomains'), '<name>sd1</name>')
    t.match(await linked('clusters'), /<name>Default<[^]*<architecture>x86_64</)
    t.equal((await sdk.ask('GET', `disks/${RAW}`)).status, 404)
    t.match(await sdk.get(`${CENTERS}none`), /^<data_centers\/>\s*$/)
    const domains = 'storagedomains?case_sensitive=true&search=name%3Dnone'
    t.match(await sdk.get(domains), /^<storage_domains\/>\s*$/)
  })

  t.test('vmcheck', async (t) => {
    t.match(await (await program()).get('vms?search=name%3Dmyvm'), /^<vms\/>\s*$/)
  })

  for (const [id, format] of [
    [RAW, 'raw'],
    [COW, 'cow'],
  ] as const) {
    t.test(`transfer of a ${format} disk, and its data`, async (t) => {
      const sdk = await program()
      let host = ''
      if (format === 'cow') {
        const search = `hw_id%3D${HARDWARE}+and+datacenter%3DDefault+and+status%3DUp`
        const found = await sdk.get(`hosts?case_sensitive=true&search=${search}`)
        host = `  <host id="${/<host href="[^"]+" id="([^"]+)"/.exec(found)?.[1] ?? ''}"/>\n`
      }
      const disk = await sdk.add('disks', diskOf(id, format))
      t.equal(disk.id, id)
      await sdk.diskStatus(id, 'ok')
      const begun = await beginWith(system, sdk, transferOf(id, host))
      t.equal(tag(begun.text, 'direction'), 'upload')
      t.equal(tag(begun.text, 'timeout_policy'), 'legacy')
      t.equal(tag(begun.text, 'inactivity_timeout'), '3600')
      await sdk.logout()
      await uploadTo(t, format === 'cow' ? begun.url : begun.proxyUrl, data)
      transfers.push(begun.id)
    })
  }

  t.test('finalize of all, by one program', async (t) => {
    const sdk = await program()
    for (const id of transfers) await sdk.finalized(id)
    await sdk.logout()
    await compare(system, sdk, RAW, guest)
    await compare(system, sdk, COW, guest, 'qcow2')
    for (const id of transfers) await sdk.acted(id, 'finalize')
    t.equal(phaseOf(await sdk.get(`imagetransfers/${transfers[0] ?? ''}`)), 'finished_success')
  })

  t.test('createvm, and the job of it', async (t) => {
    const sdk = await program()
    const cluster = /<cluster [^]*?<\/cluster>/.exec(await sdk.get('clusters'))?.[0] ?? ''
    const href = / href="([^"]+)"/.exec(cluster)?.[1] ?? 'none'
    t.match(await sdk.get(href), '<name>Default</name>')
    const ovf = '<Envelope>\n  <Content>\n    <Name>myvm</Name>\n  </Content>\n</Envelope>'
    const body = `<vm>
  <initialization>
    <configuration>
      <data>${ovf.replaceAll('<', '&lt;').replaceAll('>', '&gt;')}</data>
      <type>ova</type>
    </configuration>
  </initialization>
${inside(cluster)}</vm>
`
    const vm = await sdk.add('vms?correlation_id=11d5d3b1-6a2e-4a39-8a9b-1f6d0a4a8e55', body)
    t.match(vm.text, '<name>myvm</name>')
    const jobs = 'jobs?search=correlation_id%3D11d5d3b1-6a2e-4a39-8a9b-1f6d0a4a8e55'
    t.match(await sdk.get(jobs), '<status>finished</status>')
    t.match(await sdk.get('vms?search=name%3Dmyvm'), vm.id)
  })

  t.test('cancel of what is running, what is gone, and the disks', async (t) => {
    const sdk = await program()
    const id = 'b98114f1-c58b-4534-985b-fdb57fe7d8a4'
    await sdk.add('disks', diskOf(id, 'raw'))
    await sdk.diskStatus(id, 'ok')
    const begun = await beginWith(system, sdk, transferOf(id))
    await sdk.acted(begun.id, 'cancel')
    const none = '00000000-0000-0000-0000-000000000001'
    t.equal((await sdk.act(none, 'cancel')).status, 404)
    for (const disk of [id, none]) {
      t.match((await sdk.ask('DELETE', `disks/${disk}`)).status, /^(200|404|409)$/)
    }
    await sdk.logout()
    await sdk.phase(begun.id, 'finished_failure')
    t.equal((await sdk.ask('GET', `disks/${id}`)).status, 404)
    t.equal((await sdk.ask('DELETE', `disks/${RAW}`)).status, 200, 'one that is done')
  })
})
