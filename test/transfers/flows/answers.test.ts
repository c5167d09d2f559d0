/** Logins, refusals, and the shape of answers, as the SDK and libgovirt need them from the real service. */
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { A, COMPLETE, OVIRT_IMG_DISK, phaseOf, Sdk, transferXml } from '../../support/sdk.js'
import { DOMAIN_ID, tag } from '../../support/transfers.js'
import { Wire, type WireResponse } from '../../support/wire.js'
import { addDisk, begin, diskXml, MiB, startFlows } from './system.js'

const TOKEN = /^\{"access_token":"[\w-]{43}","scope":"[^"]+","exp":"\d+","token_type":"bearer"\}$/

t.test('answers', async (t) => {
  const system = await startFlows(t)

  t.test('login, logout, wrong password, a token that is gone', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const reply = await sdk.login()
    t.equal(reply.status, 200)
    t.match(reply.text.trim(), TOKEN)
    t.match(await sdk.get(A), '<product_info>')
    await sdk.logout()
    const gone = await sdk.askOnce('GET', A)
    t.equal(gone.status, 401)
    t.equal((await sdk.ask('GET', A)).status, 200, 'the same connection, a new token')
    const other = await Sdk.open(t, system.target, { password: 'wrong' })
    const wrong = await other.login()
    t.equal(wrong.status, 400)
    t.match(JSON.parse(wrong.text), { error_code: 'access_denied', error: /Cannot authenticate/ })
    t.equal((await other.ask('GET', A)).status, 401, 'twice')
  })

  t.test('tokens do not outlive the service, and clients do not notice', async (t) => {
    const before = await Sdk.open(t, system.target)
    await before.get(A)
    await system.stop()
    await system.start()
    const after = await Sdk.open(t, system.target)
    after.token = before.token
    t.match(await after.get(A), '<product_info>')
    t.not(after.token, before.token)
  })

  t.test('refusals that the SDK turns into its errors', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const status = async (...ask: [string, string, string?]): Promise<number> =>
      (await sdk.ask(...ask)).status
    await addDisk(sdk, 'free', MiB)
    await addDisk(sdk, 'busy', MiB)
    const upload = await begin(system, sdk, '<disk id="busy"/>')
    const onDisk = (id: string): string => transferXml(`<disk id="${id}"/>`)
    t.equal(await status('GET', 'imagetransfers/b98114f1-c58b-4534-985b-fdb57fe7d8a2'), 404)
    t.equal(await status('GET', 'disks/b98114f1-c58b-4534-985b-fdb57fe7d8a2'), 404)
    t.equal(await status('GET', 'no/such/path'), 404)
    t.equal(await status('POST', 'disks', '<disk>\n  <name>x</name>\n</disk>\n'), 400)
    t.equal(await status('POST', 'disks', diskXml('free', 'raw', MiB)), 409)
    t.equal(await status('POST', 'disks', OVIRT_IMG_DISK.replace('sd1', 'none')), 404)
    t.equal(await status('POST', 'imagetransfers', onDisk('busy')), 409)
    t.equal(await status('POST', 'imagetransfers', onDisk('none')), 404)
    t.equal(await status('POST', 'imagetransfers', '<image_transfer/>\n'), 400)
    t.equal(await status('DELETE', 'disks/busy'), 409)
    t.equal((await sdk.act(upload.id, 'resume')).status, 409)
    t.equal((await sdk.act(upload.id, 'explode')).status, 404)
    await sdk.finalized(upload.id)
    const download = await begin(
      system,
      sdk,
      '<direction>download</direction>',
      '<disk id="free"/>',
    )
    t.equal((await sdk.act(download.id, 'pause')).status, 400)
    t.equal(await status('POST', 'imagetransfers', onDisk('free')), 409)
    await sdk.finalized(download.id)
    t.equal(await status('DELETE', 'disks/free'), 200)
    t.equal(await status('DELETE', 'disks/free'), 404)
  })

  t.test('what a transfer and a disk look like, element by element', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    await addDisk(sdk, 'd', MiB, 'cow')
    const { id, text, url, proxyUrl } = await begin(system, sdk, '<disk id="d"/>')
    const here = `${A}/imagetransfers/${id}`
    const links = ['cancel', 'extend', 'finalize', 'pause', 'resume'].map(
      (name) => `    <link href="${here}/${name}" rel="${name}"/>\n`,
    )
    t.equal(
      text,
      `<image_transfer href="${here}" id="${id}">
  <actions>
${links.join('')}  </actions>
  <active>false</active>
  <direction>upload</direction>
  <format>cow</format>
  <inactivity_timeout>60</inactivity_timeout>
  <phase>transferring</phase>
  <proxy_url>${proxyUrl}</proxy_url>
  <shallow>false</shallow>
  <timeout_policy>legacy</timeout_policy>
  <transfer_url>${url}</transfer_url>
  <transferred>0</transferred>
  <disk href="${A}/disks/d" id="d"/>
  <host href="${A}/hosts/456" id="456"/>
  <image id="d"/>
</image_transfer>
`,
    )
    const disk = await sdk.get('disks/d')
    const expected = {
      ...{ alias: 'd', backup: 'none', content_type: 'data', format: 'cow' },
      ...{ provisioned_size: String(MiB), qcow_version: 'qcow2_v3', status: 'locked' },
      ...{ propagate_errors: 'false', shareable: 'false', sparse: 'true', name: 'd' },
      ...{ storage_type: 'image', wipe_after_delete: 'false' },
    }
    for (const [name, value] of Object.entries(expected)) t.equal(tag(disk, name), value, name)
    t.match(disk, `<storage_domain href="${A}/storagedomains/${DOMAIN_ID}" id="${DOMAIN_ID}"/>`)
    t.match(disk, `<link href="${A}/disks/d/disksnapshots" rel="disksnapshots"/>`)
    t.equal(tag(disk, 'initial_size'), undefined)
    await sdk.acted(id, 'cancel')
    await sdk.phase(id, 'finished_failure')
  })

  t.test('actions in the forms clients send', async (t) => {
    const sdk = await Sdk.open(t, system.target)
    await addDisk(sdk, 'acted', MiB)
    const { id } = await begin(system, sdk, '<disk id="acted"/>')
    const path = `imagetransfers/${id}/extend`
    for (const body of ['<action/>\n', '<action />', '<action></action>', '{}', '']) {
      const { status, text } = await sdk.ask('POST', path, body)
      t.equal(status, 200, body)
      t.match(text, COMPLETE)
    }
    t.match((await sdk.ask('POST', `${path}?async=true`, '<action/>\n')).text, COMPLETE)
    for (const action of ['cancel', 'cancel']) await sdk.acted(id, action)
    await sdk.phase(id, 'finished_failure')
    for (const action of ['cancel', 'finalize', 'extend']) await sdk.acted(id, action)
    t.equal(phaseOf(await sdk.get(`imagetransfers/${id}`)), 'finished_failure')
  })

  t.test('libgovirt: the body of a GET, announced and never sent', async (t) => {
    const secret = Buffer.from('admin@internal:secret').toString('base64')
    const login = `Authorization: Basic ${secret}\r\n`
    const denied = await ask(t, A, '', '<action></action>')
    t.equal(denied.status, 401)
    t.equal(denied.headers['www-authenticate'], 'Basic realm="RESTAPI"')
    const root = await ask(t, A, login)
    t.equal(root.status, 200)
    const [session = ''] = (root.headers['set-cookie'] ?? '').split(';')
    t.match(session, /^JSESSIONID=/)
    const rels = ['vms', 'storagedomains', 'hosts', 'clusters', 'datacenters']
    for (const rel of rels) {
      const href = new RegExp(`<link href="([^"]+)" rel="${rel}"/>`).exec(root.text)?.[1] ?? 'none'
      t.equal((await ask(t, href, login)).status, 200, rel)
    }
    const template = /<link href="([^"]+)" rel="storagedomains\/search"\/>/.exec(root.text)?.[1]
    t.equal(template, `${A}/storagedomains?search={query}`)
    const found = await ask(t, `${A}/storagedomains?search=name%3Dsd1`, `Cookie: ${session}\r\n`)
    t.match(found.text, '<name>sd1</name>')
    for (const name of ['type', 'available', 'used', 'committed', 'status', 'master']) {
      t.not(tag(found.text, name), undefined, name)
    }
  })

  const ask = async (t: Test, path: string, more: string, body = ''): Promise<WireResponse> => {
    const wire = await Wire.open(system.target)
    t.teardown(() => wire.destroy())
    return wire.ask(
      `GET ${path} HTTP/1.1\r\nHost: engine.example\r\n${more}Filter: true\r\nAll-Content: true\r\n` +
        `Prefer: persistent-auth\r\nContent-Type: application/xml\r\nContent-Length: 17\r\n\r\n${body}`,
    )
  }

  t.test('a body of more than a KiB, with Expect: 100-continue', async (t) => {
    const wire = await Wire.open(system.target)
    t.teardown(() => wire.destroy())
    const secret = Buffer.from('admin@internal:secret').toString('base64')
    const description = randomBytes(1024).toString('hex')
    const body = diskXml('expected', 'raw', MiB).replace(
      '<name>',
      `<description>${description}</description>\n  <name>`,
    )
    const head =
      `POST ${A}/disks HTTP/1.1\r\nHost: engine.example\r\nAuthorization: Basic ${secret}\r\n` +
      `Content-Type: application/xml\r\nContent-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`
    t.equal((await wire.ask(head)).status, 100)
    const made = await wire.ask(body)
    t.match(made.status, /^20[12]$/)
    t.equal(tag(made.text, 'description'), description)
  })
})
