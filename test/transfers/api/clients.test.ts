/** Clients of Debian against the API over TLS: curl, and libgovirt as viewers use it. */
import t from 'tap'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { readTlsMaterial } from '../../../core/http/tls.js'
import { replaceCertificate } from '../../../transfers/api/server.js'
import { request, type Reply } from '../../support/http.js'
import { testPki } from '../../support/pki.js'
import { PYTHON, withoutGovirt } from '../../support/python.js'
import { run, without } from '../../support/tools.js'
import { within } from '../../support/wait.js'
import { A, PASSWORD, start, USER } from './start.js'

const pki = testPki()
const tls = readTlsMaterial(pki.keyFile, pki.certFile)

t.test('curl, as the documentation has it', { skip: without('curl') }, async (t) => {
  const { target, service } = await start(t, { tls })
  const url = `https://localhost:${target.port}${A}`
  const dir = t.testdir()
  const curl = (...args: string[]): Promise<string> =>
    run('curl', [
      '-sS',
      '--fail-with-body',
      '--cacert',
      pki.caFile,
      '-u',
      `${USER}:${PASSWORD}`,
      ...args,
    ])
  const disk = join(dir, 'disk.xml')
  writeFileSync(
    disk,
    '<disk>\n  <storage_domains>\n    <storage_domain id="c0ffee00-0000-4000-8000-000000000001"/>\n  </storage_domains>\n  <alias>mydisk</alias>\n  <initial_size>1073741824</initial_size>\n  <provisioned_size>1073741824</provisioned_size>\n  <format>raw</format>\n</disk>\n',
  )
  const xml = ['-H', 'Content-Type: application/xml', '-H', 'Accept: application/xml']
  const made = await curl(...xml, '-d', `@${disk}`, `${url}/disks`)
  const id = / id="([\w-]+)"/.exec(made)?.[1] ?? ''
  t.match(made, '<alias>mydisk</alias>')
  // Without a content type curl says that it is a form.
  const body = `<image_transfer><disk id="${id}"/><direction>upload</direction></image_transfer>`
  const transfer = await curl('-d', body, `${url}/imagetransfers`)
  const transferId = / id="([\w-]+)"/.exec(transfer)?.[1] ?? ''
  service.begin(transferId)
  t.match(await curl(...xml, `${url}/imagetransfers/${transferId}`), '<transfer_url>https://')
  const done = await curl('-d', '<action />', `${url}/imagetransfers/${transferId}/finalize`)
  t.match(done, '<status>complete</status>')
  t.match(await curl('-X', 'DELETE', `${url}/disks/${id}`), '<status>complete</status>')
  const json = await curl('-H', 'Accept: application/json', `${url}/imagetransfers`)
  t.match(JSON.parse(json), { image_transfer: [{ phase: 'finished_success' }] })
  const session = await curl('-i', '-H', 'Prefer: persistent-auth', url)
  t.match(
    session,
    /set-cookie: JSESSIONID=[\w-]{43}; Path=\/ovirt-engine\/api; Secure; HttpOnly\r\n/i,
  )
})

const PROGRAM = `
import sys, gi
gi.require_version('GoVirt', '1.0')
from gi.repository import GoVirt
uri, ca, user, password, token = sys.argv[1:]
proxy = GoVirt.Proxy.new(uri)
proxy.props.ssl_ca_file = ca
proxy.props.admin = True
if token:
    proxy.props.sso_token = token
else:
    proxy.props.username, proxy.props.password = user, password
api = proxy.fetch_api()
for get in (api.get_vms, api.get_storage_domains, api.get_hosts, api.get_clusters, api.get_data_centers):
    collection = get()
    collection.fetch(proxy)
    print(','.join(sorted(collection.get_resources())))
found = api.search_storage_domains('name=sd1')
found.fetch(proxy)
for name, domain in found.get_resources().items():
    print(name, domain.props.type.value_nick, domain.props.available, domain.props.used, domain.props.state.value_nick)
none = api.search_storage_domains('name=none')
none.fetch(proxy)
print(len(none.get_resources()))
`

t.test(
  'libgovirt finds everything by the links of the root',
  { skip: withoutGovirt() || without('curl') },
  async (t) => {
    const { target, service } = await start(t, { tls })
    service.putDisk('d')
    const uri = `localhost:${target.port}`
    const sso = `https://localhost:${target.port}/ovirt-engine/sso/oauth/token`
    const form = `grant_type=password&scope=ovirt-app-api&username=${USER}&password=${PASSWORD}`
    const answer = await run('curl', ['-sS', '--cacert', pki.caFile, '-d', form, sso])
    const { access_token: token } = JSON.parse(answer) as { access_token: string }
    for (const credential of ['', token]) {
      const args = ['-c', PROGRAM, uri, pki.caFile, USER, PASSWORD, credential]
      const said = await run(PYTHON, args)
      t.strictSame(said.trimEnd().split('\n'), [
        '',
        'sd1',
        'host1',
        'Default',
        'Default',
        'sd1 data 80530636800 1073741824 active',
        '0',
      ])
    }
  },
)

t.test('a new certificate is for new connections', async (t) => {
  const { target, server } = await start(t, { tls })
  const other = testPki('other')
  const ask = (ca: string): Promise<Reply> => request({ ...target, ca }, 'GET', `${A}/openapi.json`)
  t.equal((await ask(pki.ca)).status, 200)
  await t.rejects(ask(other.ca))
  replaceCertificate(server, readTlsMaterial(other.keyFile, other.certFile))
  t.equal((await ask(other.ca)).status, 200)
})

t.test('who connects and says nothing takes no place for long', async (t) => {
  const limits = { maxConnectionsPerAddress: 2, handshakeTimeoutMs: 50 }
  const { target, ask } = await start(t, { tls, ...limits })
  for (let round = 0; round < 3; round++) {
    const silent = [1, 2].map(() => net.connect(target))
    for (const socket of silent) socket.on('error', () => undefined)
    await Promise.all(silent.map((socket) => once(socket, 'connect')))
    await Promise.all(silent.map((socket) => within('its end', 5000, once(socket, 'close'))))
  }
  t.equal((await ask('GET', '')).status, 200)
})
