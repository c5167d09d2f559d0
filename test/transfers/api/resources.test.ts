/** Every resource, in both forms. */
import t from 'tap'
import { UnreachableError } from '../../../transfers/store/store.js'
import { Wire } from '../../support/wire.js'
import { DOMAIN, HOST } from './fake-service.js'
import { A, BASIC, start } from './start.js'

const JSON_HEADERS = { accept: 'application/json', 'content-type': 'application/json' }

t.test('the root has the links that clients look for', async (t) => {
  const { ask } = await start(t)
  for (const path of [A, `${A}/`, `${A}/v4`, `${A}/v4/`]) {
    const { status, headers, text } = await ask('GET', path)
    t.equal(status, 200, path)
    t.match(headers['content-type'], /^application\/xml/)
    const base = path.replace(/\/$/, '')
    t.match(text, `<link href="${base}/disks" rel="disks"/>`)
    t.match(
      text,
      `<link href="${base}/storagedomains?search={query}" rel="storagedomains/search"/>`,
    )
    t.match(text, /<major>4<\/major>\s+<minor>5</)
    t.match(text, /<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z</)
  }
  const head = await ask('HEAD', A)
  t.equal(head.status, 200)
  t.equal(head.text, '')
  const { json } = await ask('GET', A, { headers: { accept: 'application/json' } })
  t.match(json, { product_info: { version: { major: '4' } }, summary: { hosts: { total: '1' } } })
})

t.test('the inventory: data center, cluster, storage domain, host', async (t) => {
  const { ask } = await start(t)
  const get = async (path: string): Promise<unknown> => {
    const { json, status } = await ask('GET', path, { headers: JSON_HEADERS })
    t.equal(status, 200, path)
    return json
  }
  const centers = (await get('/datacenters?search=storage.name%3Dsd1&case_sensitive=true')) as {
    data_center: { id: string; link: { href: string; rel: string }[] }[]
  }
  const [center] = centers.data_center
  t.equal(center?.link.length, 2)
  for (const { href, rel } of center?.link ?? []) {
    t.match(
      await get(href),
      rel === 'clusters' ? { cluster: [{}] } : { storage_domain: [DOMAIN_JSON] },
    )
  }
  t.strictSame(await get('/datacenters?search=storage.name%3Dnone'), { data_center: [] })
  t.match(await get(`/datacenters/${center?.id ?? ''}?follow=clusters,Storage_Domains`), {
    clusters: { cluster: [{ cpu: { architecture: 'x86_64' } }] },
    storage_domains: { storage_domain: [DOMAIN_JSON] },
  })
  const { cluster } = (await get('/clusters')) as { cluster: { id: string; name: string }[] }
  t.match(await get(`/clusters/${cluster[0]?.id ?? ''}`), { name: 'Default', cpu: { type: /./ } })
  t.match(await get('/storagedomains?search=name%3Dsd1'), { storage_domain: [DOMAIN_JSON] })
  t.match(await get(`/storagedomains/${DOMAIN.id}`), DOMAIN_JSON)
  t.match(await get(`/hosts/${HOST.id}`), { name: 'host1', status: 'up', href: `${A}/hosts/456` })
  const search = `hw_id%3D${HOST.hardwareId ?? ''}+and+datacenter%3DDefault+and+status%3DUp`
  t.match(await get(`/hosts?case_sensitive=true&search=${search}`), { host: [{ id: '456' }] })
  t.strictSame(await get('/hosts?search=hw_id%3Dnone'), { host: [] })
})

const DOMAIN_JSON = { id: DOMAIN.id, name: 'sd1', available: String(DOMAIN.available) }

t.test('disks are made, shown, found and removed', async (t) => {
  const { ask, service } = await start(t)
  const xml = `<?xml version="1.0"?><!-- by hand --><disk>
  <storage_domains><storage_domain id="${DOMAIN.id}"/></storage_domains>
  <alias>my &lt;disk&gt;</alias><initial_size>1073741824</initial_size>
  <provisioned_size>1073741824</provisioned_size><format>raw</format><quota id="x"/></disk>`
  const made = await ask('POST', '/disks', { body: xml })
  t.equal(made.status, 202)
  const href = made.headers['location'] ?? ''
  t.match(href, /^\/ovirt-engine\/api\/disks\/[\w-]{36}$/)
  t.match(made.text, '<status>locked</status>')
  t.match(made.text, '<creation_status>pending</creation_status>')
  t.match(service.newDisks[0], { name: 'my <disk>', sparse: true, initialSize: 1_073_741_824 })
  const shown = await ask('GET', href)
  t.match(shown.text, '<name>my &lt;disk&gt;</name>')
  t.match(shown.text, '<status>ok</status>')
  t.match(shown.text, new RegExp(`<storage_domain href="${A}/storagedomains/${DOMAIN.id}" id=`))
  t.match((await ask('GET', `${href}?follow=storage_domains`, { headers: JSON_HEADERS })).json, {
    storage_domains: { storage_domain: [{ name: 'sd1' }] },
  })
  t.match((await ask('GET', '/disks?search=name%3Dmy*+and+status%3DOK')).text, href)
  t.equal((await ask('GET', '/disks;max=0')).text, '<disks/>\n')
  t.match((await ask('GET', `${href}/disksnapshots`)).text, '<disk_snapshots>')
  t.match((await ask('GET', `/storagedomains/${DOMAIN.id}/disks`)).text, href)
  const links = [...shown.text.matchAll(/<link href="([^"]+)" rel="(\w+)"/g)]
  const rels = links.map(([, , rel]) => rel)
  const actions = ['convert', 'copy', 'export', 'move', 'reduce', 'refreshlun', 'sparsify']
  t.strictSame(rels, [...actions, 'disksnapshots', 'permissions', 'statistics'])
  for (const [, link = '', rel = ''] of links) {
    const isAction = actions.includes(rel)
    const reply = await ask(isAction ? 'POST' : 'GET', link, isAction ? { body: '<action/>' } : {})
    t.equal(reply.status, isAction ? 400 : 200, rel)
    if (isAction) t.match(reply.text, `<detail>Disks cannot ${rel} here; `)
  }
  t.equal((await ask('GET', `${href}/statistics`)).text, '<statistics/>\n')
  t.equal((await ask('POST', '/disks/none/copy')).status, 404)
  const removed = await ask('DELETE', `${href}?async=true`, { headers: { accept: '*/*' } })
  t.equal(removed.status, 200)
  t.equal(removed.text, '<action>\n  <status>complete</status>\n</action>\n')
  const gone = await ask('DELETE', href)
  t.equal(gone.status, 404)
  t.match(gone.text, /<fault>\s+<detail>.*<\/detail>\s+<reason>Not Found</)
})

t.test('JSON has numbers and booleans as they are or as strings', async (t) => {
  const { ask, service } = await start(t)
  const body = JSON.stringify({
    ...{
      name: 'j',
      format: 'cow',
      provisioned_size: 67108864,
      sparse: true,
      backup: 'incremental',
    },
    ...{ storage_domains: { storage_domain: [{ name: 'sd1' }] }, extra: { a: [1] } },
  })
  const { status, json } = await ask('POST', '/disks', { body, headers: JSON_HEADERS })
  t.equal(status, 202)
  t.match(json, { provisioned_size: '67108864', sparse: 'true', qcow_version: 'qcow2_v3' })
  t.match(service.newDisks[0], { provisionedSize: 67108864, storageDomain: { name: 'sd1' } })
})

t.test('Expect: 201-created waits until the disk is there', async (t) => {
  const { ask, service } = await start(t)
  let finish = (): void => undefined
  service.ready = () => new Promise((resolve) => (finish = resolve))
  const body = '<disk id="d1"><format>raw</format><provisioned_size>512</provisioned_size></disk>'
  const asked = ask('POST', '/disks', { body, headers: { expect: '201-created' } })
  while (service.newDisks.length === 0) await new Promise(setImmediate)
  finish()
  const { status, text } = await asked
  t.equal(status, 201)
  t.match(text, '<status>ok</status>')
  const other = await ask('POST', '/disks', {
    body: body.replace('d1', 'd2'),
    headers: { expect: '202-accepted' },
  })
  t.equal(other.status, 202)
  finish()
})

t.test('disks that cannot be are refused with the reason', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('used')
  const good = { format: 'raw', provisioned_size: '512' }
  const cases: [number, RegExp, object][] = [
    [400, /Disk \[provisionedSize\] required for add.*Incomplete parameters/s, { format: 'raw' }],
    [400, /Disk \[format, provisionedSize\] required for add.*Incomplete parameters/s, {}],
    [400, /Invalid value/, { ...good, format: 'vmdk' }],
    [400, /Invalid value/, { ...good, provisioned_size: '0' }],
    [400, /Invalid value/, { ...good, provisioned_size: '-1' }],
    [400, /Invalid value/, { ...good, provisioned_size: '99999999999999999999' }],
    [400, /Invalid value/, { ...good, id: '../../etc' }],
    [400, /Invalid value/, { ...good, name: 'a\u0001b' }],
    [400, /Invalid value/, { ...good, name: { __proto__: null, a: 1 } }],
    [400, /Invalid value/, { ...good, lun_storage: {} }],
    [404, /storage domain/, { ...good, storage_domains: { storage_domain: [{ name: 'x' }] } }],
    [409, /Operation Failed/, { ...good, id: 'used' }],
    [409, /incremental/i, { ...good, backup: 'incremental' }],
    [409, /sparse/, { ...good, format: 'cow', sparse: false }],
  ]
  for (const [status, pattern, body] of cases) {
    const reply = await ask('POST', '/disks', { body: JSON.stringify(body) })
    t.equal(reply.status, status, reply.text)
    t.match(reply.text, pattern)
  }
})

t.test('a disk is changed, in part or sent as a whole', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('d', { name: 'old', provisionedSize: 1024 })
  const xml = '<disk><name>new</name><description>a &amp; b</description></disk>'
  const changed = await ask('PUT', '/disks/d', { body: xml })
  t.equal(changed.status, 200)
  t.match(changed.text, /^<disk href=[^>]* id="d">/)
  t.match(changed.text, '<description>a &amp; b</description>')
  t.strictSame(service.diskChanges, [{ name: 'new', description: 'a & b' }])

  const whole = (await ask('GET', '/disks/d', { headers: JSON_HEADERS })).json as object
  const body = JSON.stringify({ ...whole, name: 'newer', provisioned_size: 2048, shareable: true })
  const { status, json } = await ask('PUT', '/disks/d', { body, headers: JSON_HEADERS })
  t.equal(status, 200)
  t.match(json, { name: 'newer', alias: 'newer', provisioned_size: '2048', shareable: 'true' })

  service.diskChanges.length = 0
  await ask('PUT', '/disks/d', { body: '<disk/>' })
  t.strictSame(service.diskChanges, [{}], 'nothing is changed')
})

t.test('what of a disk cannot be changed is refused with the reason', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('d', { format: 'cow', sparse: true })
  service.putDisk('busy', { status: 'locked', lockedBy: 'creation' })
  const cases: [number, RegExp, string, object | string][] = [
    [400, /format of a disk cannot be changed/, 'd', { format: 'raw' }],
    [400, /sparse of a disk cannot be changed/, 'd', { sparse: '0' }],
    [400, /image_id of a disk/, 'd', { image_id: 'x' }],
    [400, /content_type of a disk/, 'd', { content_type: 'iso' }],
    [400, /id of a disk/, 'd', { id: 'other' }],
    [400, /name must not be empty/, 'd', { name: '' }],
    [400, /name must not be empty/, 'd', '<disk><name></name></disk>'],
    [400, /alias must not be empty/, 'd', '<disk><alias/><name>x</name></disk>'],
    [400, /Invalid value/, 'd', { name: 'a\u0001b' }],
    [400, /Invalid value/, 'd', { backup: 'full' }],
    [400, /too large/, 'd', { provisioned_size: '99999999999999999999' }],
    [400, /Incomplete parameters/, 'd', ''],
    [404, /no such disk/, 'none', { name: 'x' }],
    [409, /locked/, 'busy', { name: 'x' }],
  ]
  for (const [status, pattern, id, body] of cases) {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const reply = await ask('PUT', `/disks/${id}`, { body: text })
    t.equal(reply.status, status, reply.text)
    t.match(reply.text, pattern)
  }
  t.strictSame(service.diskChanges, [])
})

t.test('transfers are made, shown, and take actions', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('123')
  const body = {
    disk: { id: '123' },
    host: { name: 'host1' },
    direction: 'download',
    format: 'raw',
  }
  const made = await ask('POST', '/imagetransfers', {
    body: JSON.stringify(body),
    headers: JSON_HEADERS,
  })
  t.equal(made.status, 201)
  const id = (made.json as { id: string }).id
  t.equal(made.headers['location'], `${A}/imagetransfers/${id}`)
  t.match(made.json, { phase: 'initializing', active: 'false', image: { id: '123' } })
  t.notOk('transfer_url' in (made.json as object))
  service.begin(id)
  const { text } = await ask('GET', `/imagetransfers/${id}`)
  t.match(text, '<transfer_url>https://host1.example:54322/images/41c732d4')
  t.match(text, '<disk href="/ovirt-engine/api/disks/123" id="123"/>')
  t.match(text, '<host href="/ovirt-engine/api/hosts/456" id="456"/>')
  const followed = await ask('GET', '/imagetransfers?follow=disk.storage_domains,host', {
    headers: JSON_HEADERS,
  })
  t.match(followed.json, {
    image_transfer: [
      { disk: { storage_domains: { storage_domain: [{ name: 'sd1' }] } }, host: { name: 'host1' } },
    ],
  })
  for (const given of [
    undefined,
    '<action/>\n',
    '<action></action>',
    '{}',
    '<action><async>1</async></action>',
  ]) {
    const acted = await ask(
      'POST',
      `/imagetransfers/${id}/extend`,
      given === undefined ? {} : { body: given },
    )
    t.equal(acted.status, 200)
    t.match(acted.text, '<status>complete</status>')
  }
  const json = await ask('POST', `/imagetransfers/${id}/extend?async=true`, {
    headers: JSON_HEADERS,
  })
  t.strictSame(json.json, { status: 'complete' })
  t.equal((await ask('POST', `/imagetransfers/${id}/pause`)).status, 400)
  t.equal((await ask('POST', `/imagetransfers/${id}/resume`)).status, 409)
  t.equal((await ask('POST', `/imagetransfers/${id}/explode`)).status, 404)
  t.equal((await ask('POST', '/imagetransfers/none/cancel')).status, 404)
  t.equal((await ask('POST', '/imagetransfers', { body: JSON.stringify(body) })).status, 409)
})

t.test('transfers that cannot be are refused', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('d')
  service.putDisk('e', { name: 'twin' })
  service.putDisk('f', { name: 'twin' })
  const disk = { id: 'd' }
  const cases: [number, object][] = [
    [400, {}],
    [400, { direction: 'upload' }],
    [400, { disk: {} }],
    [400, { disk, direction: 'sideways' }],
    [400, { disk, format: 'qcow2' }],
    [400, { disk, timeout_policy: 'never' }],
    [400, { disk, inactivity_timeout: '-1' }],
    [400, { disk, backup: { id: 'b' } }],
    [400, { disk, image: { id: 'd' } }],
    [400, { disk: { name: 'twin' } }],
    [400, { disk: { id: 'a b' } }],
    [404, { disk: { name: 'none' } }],
    [404, { disk: { id: 'none' } }],
    [404, { snapshot: { id: 'none' } }],
    [404, { disk, host: { id: 'none' } }],
    [201, { snapshot: { id: 'image-of-d' } }],
  ]
  for (const [status, body] of cases) {
    const reply = await ask('POST', '/imagetransfers', { body: JSON.stringify(body) })
    t.equal(reply.status, status, JSON.stringify(body))
  }
  const none = await ask('POST', '/imagetransfers')
  t.match(none.text, 'Incomplete parameters')
})

t.test('the definition of a virtual machine is stored and its job found', async (t) => {
  const dir = t.testdir()
  const { ask } = await start(t, { vmDirectory: `${dir}/vms` })
  t.equal((await ask('GET', '/vms?search=name%3Dmyvm')).text, '<vms/>\n')
  const ovf = '<ovf:Envelope xmlns:ovf="x"><Content><Name>myvm</Name></Content></ovf:Envelope>'
  const escaped = ovf.replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  const body = `<vm><initialization><configuration><data>${escaped}</data><type>ova</type></configuration></initialization><cluster id="c"/></vm>`
  const made = await ask('POST', '/vms?correlation_id=c1', { body })
  t.equal(made.status, 201, made.text)
  t.match(made.text, '<name>myvm</name>')
  t.match((await ask('GET', '/vms?search=name%3Dmyvm')).text, '<status>down</status>')
  t.match((await ask('GET', '/jobs?search=correlation_id%3Dc1')).text, '<status>finished</status>')
  t.equal((await ask('GET', '/jobs?search=correlation_id%3Dc2')).text, '<jobs/>\n')
  const bad = await ask('POST', '/vms', { body: body.replace('myvm', '') })
  t.equal(bad.status, 400)
  const named = body.replace('myvm', '').replace('<vm>', '<vm><name>given</name>')
  t.match((await ask('POST', '/vms', { body: named })).text, '<name>given</name>')
  t.match((await ask('GET', '/vms?search=name%3Dgiven')).text, '<status>down</status>')
})

t.test('without a place for it no virtual machine is taken', async (t) => {
  const { ask } = await start(t)
  const configuration = { type: 'ova', data: '<E><Content><Name>n</Name></Content></E>' }
  const body = JSON.stringify({ initialization: { configuration } })
  t.equal((await ask('POST', '/vms', { body })).status, 409)
})

t.test('a database that cannot be reached is told so, and when to ask again', async (t) => {
  const { ask, service } = await start(t)
  const fail = (): Promise<never> => Promise.reject(new UnreachableError())
  Object.assign(service, { transfer: fail, disks: fail, addDisk: fail })
  const body = '<disk><format>raw</format><provisioned_size>512</provisioned_size></disk>'
  for (const reply of [
    await ask('GET', '/imagetransfers/t1'),
    await ask('GET', '/disks'),
    await ask('POST', '/disks', { body }),
  ]) {
    t.equal(reply.status, 503)
    t.match(reply.headers['retry-after'], /^\d+$/)
    t.match(reply.text, '<detail>The database cannot be reached')
  }
})

t.test('a request that comes while the service stops is told so', async (t) => {
  const { target, ask, close } = await start(t)
  const wire = await Wire.open(target)
  await wire.send(`GET ${A}/disks HTTP/1.1\r\nHost: a\r\n`)
  t.equal((await ask('GET', '/disks')).status, 200) // by now the other head has come
  const closed = close()
  await wire.send(`Authorization: ${BASIC}\r\nAccept: application/xml\r\n\r\n`)
  const { status, headers, text } = await wire.response()
  t.equal(status, 503)
  t.match(headers, { 'content-type': /^application\/xml/, connection: 'close' })
  t.match(headers['retry-after'], /^\d+$/)
  t.match(text, /<fault>.*being stopped/s)
  await closed
})
