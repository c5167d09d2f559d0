/** The exact requests of real clients (recorded from them), byte for byte, and what they need back. */
import t, { type Test } from 'tap'
import { A, COMPLETE, OVIRT_IMG_DISK, phaseOf, Sdk } from '../../support/sdk.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { DOMAIN, HOST } from './fake-service.js'
import { BASIC, start } from './start.js'

t.test('the token: exact request, ignored Basic, wrong password, stale token', async (t) => {
  const { target } = await start(t)
  const empty = Buffer.from('admin@internal:').toString('base64')
  const sdk = await Sdk.open(t, target, { ssoHeaders: `Authorization: Basic ${empty}\r\n` })
  t.match(await sdk.get(A), '<product_info>')
  const wrong = await sdk.login('wrong')
  t.equal(wrong.status, 400)
  t.match(JSON.parse(wrong.text), { error_code: 'access_denied', error: /Cannot authenticate/ })
  await sdk.logout()
  t.equal((await sdk.askOnce('GET', A)).status, 401)
  t.equal((await sdk.ask('GET', A)).status, 200, 'by a new token')
})

t.test('upload to a disk on any host: the first example of the documentation', async (t) => {
  const started = await start(t)
  const { service } = started
  service.putDisk('123')
  const sdk = await Sdk.open(t, started.target)
  const body = '<image_transfer>\n  <disk id="123"/>\n</image_transfer>\n'
  const { id, text } = await sdk.add('imagetransfers', body)
  t.equal(phaseOf(text), 'initializing')
  t.match(text, '<direction>upload</direction>')
  t.match(service.newTransfers[0], { inactivityTimeout: 60, timeoutPolicy: 'legacy' })
  service.begin(id)
  const now = await sdk.get(`imagetransfers/${id}`)
  t.equal(phaseOf(now), 'transferring')
  t.match(now, /<transfer_url>https:\S+\/images\/\S+<\/transfer_url>/)
  t.match(now, /<proxy_url>https:\S+\/images\/\S+<\/proxy_url>/)
  t.match(now, `<host href="${A}/hosts/456" id="456"/>`)
  t.match((await sdk.act(id, 'finalize')).text, COMPLETE)
  t.equal(phaseOf(await sdk.get(`imagetransfers/${id}`)), 'finished_success')
  await sdk.logout()
})

t.test('upload on a host that the client chose, and a download', async (t) => {
  const started = await start(t)
  const { service } = started
  service.putDisk('123')
  service.putDisk('124')
  const sdk = await Sdk.open(t, started.target)
  const upload = '<image_transfer>\n  <disk id="123"/>\n  <host id="456"/>\n</image_transfer>\n'
  t.match((await sdk.add('imagetransfers', upload)).text, 'id="456"')
  t.equal(service.newTransfers[0]?.hostId, '456')
  const download =
    '<image_transfer>\n  <direction>download</direction>\n  <disk id="124"/>\n</image_transfer>\n'
  t.match((await sdk.add('imagetransfers', download)).text, '<direction>download</direction>')
})

t.test('pause, resume, extend, cancel', async (t) => {
  const started = await start(t)
  const { service } = started
  service.putDisk('123')
  const sdk = await Sdk.open(t, started.target)
  const { id } = await sdk.add(
    'imagetransfers',
    '<image_transfer>\n  <disk id="123"/>\n</image_transfer>\n',
  )
  service.begin(id)
  const refused = await sdk.act(id, 'resume')
  t.equal(refused.status, 409)
  t.match(refused.text, /<fault>[^]*<detail>[^]*<reason>Operation Failed/)
  for (const [action, phase] of [
    ['pause', 'paused_user'],
    ['resume', 'resuming'],
    ['extend', 'resuming'],
    ['cancel', 'cancelled_user'],
  ] as const) {
    const { status, text } = await sdk.act(id, action)
    t.equal(status, 200)
    t.match(text, COMPLETE)
    t.equal(phaseOf(await sdk.get(`imagetransfers/${id}`)), phase)
  }
})

t.test('ovirt-img upload-disk, which posts back the whole disk and host', async (t) => {
  const started = await start(t)
  const { service } = started
  const sdk = await Sdk.open(t, started.target)
  t.equal(OVIRT_IMG_DISK.length, 393)
  const disk = await sdk.add('disks', OVIRT_IMG_DISK)
  t.match(disk.text, '<status>locked</status>')
  await until('the disk is ok', async () => (await sdk.get(`disks/${disk.id}`)).includes('>ok<'))
  const centers = await sdk.get('datacenters?case_sensitive=true&search=storage.name%3Dsd1')
  t.match(centers, '<name>Default</name>')
  const hosts = await sdk.get(
    `hosts?case_sensitive=true&search=hw_id%3D${HOST.hardwareId ?? ''}+and+datacenter%3DDefault+and+status%3DUp`,
  )
  const host = /<host [^]*<\/host>/.exec(hosts)?.[0] ?? ''
  const whole = `<image_transfer>\n  <direction>upload</direction>\n  <format>raw</format>\n  <timeout_policy>cancel</timeout_policy>\n${disk.text}${host}\n</image_transfer>\n`
  const { id, text } = await sdk.add('imagetransfers', whole)
  t.match(text, '<timeout_policy>cancel</timeout_policy>')
  t.match(service.newTransfers[0], { diskId: disk.id, hostId: '456', format: 'raw' })
  service.begin(id)
  const now = await sdk.get(`imagetransfers/${id}`)
  const href = /<host href="([^"]+)"/.exec(now)?.[1] ?? ''
  t.match(await sdk.get(href), '<name>host1</name>')
  await finalize(t, sdk, id)
  await sdk.logout()
})

t.test('ovirt-img download-disk follows disk, storage domain and host', async (t) => {
  const started = await start(t)
  started.service.putDisk('d1')
  const sdk = await Sdk.open(t, started.target)
  const disk = await sdk.get('disks/d1')
  const domain = /<storage_domain href="([^"]+)"/.exec(disk)?.[1] ?? ''
  t.match(await sdk.get(domain), '<name>sd1</name>')
  const { id } = await sdk.add(
    'imagetransfers',
    `<image_transfer>\n  <direction>download</direction>\n  <format>raw</format>\n  <timeout_policy>cancel</timeout_policy>\n${disk}</image_transfer>\n`,
  )
  started.service.begin(id)
  t.match(await sdk.get('hosts/456'), '<host ')
  await finalize(t, sdk, id)
})

t.test('a snapshot is downloaded by the id of its image', async (t) => {
  const started = await start(t)
  started.service.putDisk('d1')
  const sdk = await Sdk.open(t, started.target)
  t.match(await sdk.get('storagedomains?search=name%3Dsd1'), '<name>sd1</name>')
  const snapshot = await sdk.get(`storagedomains/${DOMAIN.id}/disksnapshots/image-of-d1`)
  t.match(snapshot, `<disk href="${A}/disks/d1" id="d1"/>`)
  const body =
    '<image_transfer>\n  <direction>download</direction>\n  <shallow>true</shallow>\n  <snapshot id="image-of-d1"/>\n</image_transfer>\n'
  t.match((await sdk.add('imagetransfers', body)).text, '<shallow>true</shallow>')
})

t.test('virt-v2v: precheck, disk with an id, transfer, machine, job, cancel', async (t) => {
  const started = await start(t, { vmDirectory: t.testdir() })
  const { service } = started
  const sdk = await Sdk.open(t, started.target)
  const center = await sdk.get('datacenters?case_sensitive=true&search=storage.name%3Dsd1')
  const rel = (name: string): string =>
    new RegExp(`<link href="([^"]+)" rel="${name}"`).exec(center)?.[1] ?? ''
  t.match(await sdk.get(rel('storagedomains')), '<name>sd1</name>')
  const clusters = await sdk.get(rel('clusters'))
  t.match(clusters, '<architecture>x86_64</architecture>')
  const uuid = 'b98114f1-c58b-4534-985b-fdb57fe7d8a2'
  t.equal((await sdk.ask('GET', `disks/${uuid}`)).status, 404)
  t.equal(await sdk.get('vms?search=name%3Dmyvm'), '<vms/>\n')
  const disk = await sdk.add(
    'disks',
    `<disk id="${uuid}">\n  <description>Uploaded by virt-v2v</description>\n  <format>raw</format>\n  <initial_size>1048576</initial_size>\n  <name>myvm-000</name>\n  <provisioned_size>1048576</provisioned_size>\n  <sparse>true</sparse>\n  <storage_domains>\n    <storage_domain>\n      <name>sd1</name>\n    </storage_domain>\n  </storage_domains>\n</disk>\n`,
  )
  t.equal(disk.id, uuid)
  const { id, text } = await sdk.add(
    'imagetransfers',
    `<image_transfer>\n  <format>raw</format>\n  <inactivity_timeout>3600</inactivity_timeout>\n  <disk id="${uuid}"/>\n</image_transfer>\n`,
  )
  t.match(text, '<inactivity_timeout>3600</inactivity_timeout>')
  service.begin(id)
  await finalize(t, sdk, id)
  const cluster = /<cluster [^]*<\/cluster>/.exec(clusters)?.[0] ?? ''
  const ovf =
    '&lt;Envelope&gt;&lt;Content&gt;&lt;Name&gt;myvm&lt;/Name&gt;&lt;/Content&gt;&lt;/Envelope&gt;'
  await sdk.add(
    'vms?correlation_id=0b1c',
    `<vm>\n  <initialization>\n    <configuration>\n      <data>${ovf}</data>\n      <type>ova</type>\n    </configuration>\n  </initialization>\n${cluster}</vm>\n`,
  )
  t.match(await sdk.get('jobs?search=correlation_id%3D0b1c'), '<status>finished</status>')
  t.equal((await sdk.act('00000000-0000-0000-0000-000000000001', 'cancel')).status, 404)
  t.equal((await sdk.ask('DELETE', `disks/${uuid}`)).status, 200)
})

t.test('what the SDK turns into its errors', async (t) => {
  const started = await start(t)
  const { service } = started
  service.putDisk('busy', { status: 'locked', lockedBy: 'creation' })
  service.putDisk('free')
  const sdk = await Sdk.open(t, started.target)
  const status = async (method: string, path: string, body?: string): Promise<number> =>
    (await sdk.ask(method, path, body)).status
  t.equal(await status('GET', 'imagetransfers/none'), 404)
  t.equal(await status('GET', 'disks/none'), 404)
  t.equal(await status('GET', 'nothing/at/all'), 404)
  t.equal(await status('POST', 'disks', '<disk>\n  <name>x</name>\n</disk>\n'), 400)
  t.equal(await status('POST', 'disks', OVIRT_IMG_DISK.replace('sd1', 'none')), 404)
  t.equal(await status('POST', 'disks', OVIRT_IMG_DISK.replace('<disk>', '<disk id="free">')), 409)
  const onDisk = (id: string): string =>
    `<image_transfer>\n  <disk id="${id}"/>\n</image_transfer>\n`
  t.equal(await status('POST', 'imagetransfers', onDisk('busy')), 409)
  t.equal(await status('POST', 'imagetransfers', onDisk('none')), 404)
  t.equal(await status('DELETE', 'disks/busy'), 409)
})

t.test('libgovirt: a GET that announces a body, and one whose body never comes', async (t) => {
  const { target } = await start(t)
  const head = (path: string, more: string): string =>
    `GET ${path} HTTP/1.1\r\nHost: engine.example\r\nFilter: true\r\nAll-Content: true\r\n${more}` +
    'Prefer: persistent-auth\r\nContent-Type: application/xml\r\nContent-Length: 17\r\n\r\n'
  const first = await Wire.open(target)
  const denied = await first.ask(`${head(A, '')}<action></action>`)
  t.equal(denied.status, 401)
  t.equal(denied.headers['www-authenticate'], 'Basic realm="RESTAPI"')
  t.equal(denied.headers['connection'], 'close')
  t.ok(await first.isClosedSilently())
  let cookie = ''
  for (const path of [A, `${A}/storagedomains?search=name%3Dsd1`, `${A}/vms`]) {
    const wire = await Wire.open(target)
    const { status, headers } = await wire.ask(head(path, `Authorization: ${BASIC}\r\n${cookie}`))
    t.equal(status, 200)
    t.equal(headers['connection'], 'close')
    const [session] = (headers['set-cookie'] ?? '').split(';')
    if (session !== undefined && session !== '') cookie = `Cookie: ${session}\r\n`
    wire.destroy()
  }
  const wire = await Wire.open(target)
  t.equal((await wire.ask(head(A, cookie))).status, 200, 'by the cookie alone')
  wire.destroy()
  const ending = await Wire.open(target)
  const plain = `GET ${A} HTTP/1.1\r\nHost: e\r\n${cookie}\r\n`
  t.equal((await ending.ask(plain)).status, 401, 'without the wish the session ends')
  ending.destroy()
  const after = await Wire.open(target)
  t.equal((await after.ask(head(A, cookie))).status, 401)
  after.destroy()
})

async function finalize(t: Test, sdk: Sdk, id: string): Promise<void> {
  const { status, text } = await sdk.act(id, 'finalize')
  t.equal(status, 200)
  t.match(text, COMPLETE)
  await until('it is finished', async () =>
    (await sdk.get(`imagetransfers/${id}`)).includes('finished_success'),
  )
}
