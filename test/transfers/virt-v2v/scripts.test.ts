/**
 * virt-v2v's own programs for `-o rhv-upload`, one after the other as virt-v2v runs them, with its plugin
 * in between. They import oVirt's SDK, for which there is a stand-in: see there what that proves.
 */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { PYTHON } from '../../support/python.js'
import { Sdk } from '../../support/sdk.js'
import { run } from '../../support/tools.js'
import { idOf, putFile } from '../../support/transfers.js'
import { extract, withoutVirtV2v, type ScriptName } from '../../support/virt-v2v.js'
import { compare, MiB, startFlows } from '../flows/system.js'

const SIZE = 16 * MiB
const STAND_IN = join(process.cwd(), 'test', 'transfers', 'virt-v2v', 'stand-in')
const DISKS = ['b98114f1-c58b-4534-985b-fdb57fe7d8a2', 'b98114f1-c58b-4534-985b-fdb57fe7d8a3']
const FORMATS = ['raw', 'qcow2'] as const

interface Begun {
  readonly transfer_id: string
  readonly destination_url: string
  readonly is_ovirt_host: boolean
}

t.test('virt-v2v -o rhv-upload', { skip: withoutVirtV2v() }, async (t) => {
  const system = await startFlows(t)
  const image = putFile(system, 'sparse.raw', randomBytes(2 * MiB))
  truncateSync(image, SIZE)
  const password = putFile(system, 'pw', Buffer.from('secret\n'))
  // A connection that says nothing for ten seconds is answered 408.
  const connect = (): Promise<Sdk> => Sdk.open(t, system.target)
  let sdk: Sdk
  const api = new URL(system.url)
  api.username = 'admin@internal'

  const common = {
    ...{ output_conn: api.href, output_password: password, output_storage: 'sd1' },
    ...{ output_name: 'myvm', rhv_cafile: system.caFile, rhv_cluster: 'Default' },
    ...{ rhv_direct: false, insecure: false, verbose: true },
  }
  /** Parameters are a file of JSON. Resolves with what it writes, rejects with why it failed. */
  const python = async (name: ScriptName, more: object, ...args: string[]): Promise<string> => {
    const file = join(system.dir, `${name}.json`)
    writeFileSync(file, JSON.stringify({ ...common, ...more }))
    const script = extract(name, system.dir)
    const environment = [`PYTHONPATH=${STAND_IN}`, 'PYTHONDONTWRITEBYTECODE=1']
    return run('env', [...environment, PYTHON, script, file, ...args])
  }
  const begin = async (index: number, more = {}): Promise<Begun> => {
    const disk = { disk_uuid: DISKS[index], disk_name: `myvm-00${index}`, disk_size: SIZE }
    const said = await python('transfer', { ...disk, disk_format: FORMATS[index], ...more })
    return JSON.parse(said) as Begun
  }
  const copy = ({ destination_url: url }: Begun): Promise<string> => {
    const values = [`size=${SIZE}`, `url=${url}`, `cafile=${system.caFile}`]
    const plugin = extract('plugin', system.dir)
    const command = `nbdcopy --flush ${image} "$uri"`
    return run('nbdkit', ['-f', '-U', '-', 'python', plugin, ...values, '--run', command])
  }
  const transfers: Begun[] = []
  const all = () => ({
    transfer_ids: transfers.map((each) => each.transfer_id),
    disk_uuids: DISKS,
  })

  t.test('precheck and vmcheck', async (t) => {
    const found = JSON.parse(await python('precheck', { rhv_disk_uuids: DISKS })) as object
    t.match(found, { rhv_storagedomain_uuid: /./, rhv_cluster_cpu_architecture: 'x86_64' })
    t.equal(await python('vmcheck', {}), '')
    const none = python('precheck', { output_storage: 'none' })
    await t.rejects(none, /The storage domain ‘none’ does not exist/)
    const cluster = python('precheck', { rhv_cluster: 'none' })
    await t.rejects(cluster, /The cluster ‘none’ is not part of the DC ‘Default’/)
    const wrong = putFile(system, 'wrong', Buffer.from('wrong\n'))
    const denied = python('vmcheck', { output_password: wrong })
    await t.rejects(denied, /Error during SSO authentication access_denied/)
  })

  t.test('transfer and data, through the proxy and with rhv-direct', async (t) => {
    for (const index of DISKS.keys()) {
      const begun = await begin(index, { rhv_direct: index === 1 })
      const { origin } = new URL(begun.destination_url)
      t.equal(origin, index === 1 ? system.daemon.url : system.proxy.url)
      system.secrets.add(begun.destination_url.split('/').at(-1) ?? '')
      await copy(begun)
      transfers.push(begun)
    }
    await t.rejects(python('precheck', { rhv_disk_uuids: DISKS }), /already exists/)
  })

  t.test('finalize', async () => {
    await python('finalize', all())
    sdk = await connect()
    await compare(system, sdk, DISKS[0] ?? '', image)
    await compare(system, sdk, DISKS[1] ?? '', image, 'qcow2')
  })

  t.test('createvm', async (t) => {
    const text = '<Envelope><Content><Name>myvm</Name><x>&amp; "ä"</x></Content></Envelope>'
    const ovf = putFile(system, 'ovf', Buffer.from(text))
    const cluster = idOf(await sdk.get('clusters'))
    await python('createvm', { rhv_cluster_uuid: cluster }, ovf)
    await t.rejects(python('vmcheck', {}), /VM already exists with name ‘myvm’/)
    const [stored = ''] = readdirSync(join(system.images, '.vms')).filter((n) => n.endsWith('.ovf'))
    t.equal(readFileSync(join(system.images, '.vms', stored), 'utf8'), text)
  })

  t.test('cancel, as after a failure: transfer and disks are gone', async (t) => {
    for (const disk of DISKS) t.equal((await sdk.ask('DELETE', `disks/${disk}`)).status, 200)
    transfers.splice(0, Infinity, await begin(0))
    system.secrets.add(transfers[0]?.destination_url.split('/').at(-1) ?? '')
    await python('cancel', all())
    await sdk.phase(transfers[0]?.transfer_id ?? '', 'finished_failure')
    for (const disk of DISKS) t.equal((await sdk.ask('GET', `disks/${disk}`)).status, 404)
    await python('cancel', { ...all(), transfer_ids: [DISKS[1]] })
  })

  t.test('a disk that verification refuses is told by finalize', async (t) => {
    const begun = await begin(0)
    transfers.splice(0, Infinity, begun)
    const url = begun.destination_url
    system.secrets.add(url.split('/').at(-1) ?? '')
    const evil = join(system.dir, 'evil.qcow2')
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', evil, String(SIZE)])
    t.equal((await system.upload(url, evil)).status, 200)
    await t.rejects(python('finalize', all()), /transfer .* has failed/)
    await sdk.diskStatus(DISKS[0] ?? '', 'illegal')
  })
})
