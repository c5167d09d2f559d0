/** The documentation of image transfers, done with curl, between a daemon, a proxy and the service. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  diskXml,
  idOf,
  putFile,
  startSystem,
  tag,
  type TransferSystem,
} from '../../support/transfers.js'
import { without } from '../../support/tools.js'
import { until } from '../../support/wait.js'

const MiB = 2 ** 20
const TRANSFER_URL = /^https:\/\/127\.0\.0\.1:\d+\/images\/[0-9a-f-]{36}$/

t.test('curl, as the documentation has it', { skip: without('curl') }, async (t) => {
  const system = await startSystem(t, {
    transfers: { success_retention: 3, failure_retention: 3, cleanup_interval: 1 },
  })
  const data = randomBytes(4 * MiB)
  const file = putFile(system, 'disk.img', data)

  t.test('upload of disk 123, through transfer_url', async (t) => {
    const disk = await system.post('disks', diskXml('123', 'raw', data.length))
    t.equal(idOf(disk), '123')
    await system.diskStatus('123', 'ok')
    const body = '<image_transfer><disk id="123"/><direction>upload</direction></image_transfer>'
    const made = await system.post('imagetransfers', body)
    t.match(tag(made, 'phase'), /^(initializing|transferring)$/)
    t.match(made, /<host [^>]*id="[^"]+"\/>/)
    t.equal(tag(made, 'direction'), 'upload')
    const id = idOf(made)
    const ready = await system.phase(id, 'transferring')
    await system.diskStatus('123', 'locked')
    const { url, proxyUrl, ticket } = system.seen(id, ready)
    t.match(url, TRANSFER_URL)
    t.match(proxyUrl, TRANSFER_URL)
    t.equal(url, `${system.daemon.url}/images/${ticket}`)
    t.equal(proxyUrl, `${system.proxy.url}/images/${ticket}`)
    t.equal((await system.upload(url, file)).status, 200)
    t.match(await system.post(`imagetransfers/${id}/finalize`, '<action />'), 'complete')
    await system.phase(id, 'finished_success')
    await system.diskStatus('123', 'ok')
    const image = tag(await system.diskStatus('123', 'ok'), 'image_id') ?? ''
    t.ok(readFileSync(join(system.images, image)).equals(data))
    t.equal((await system.upload(url, file)).status, 403, 'the ticket is gone')
    const isGone = async () => (await system.get(`imagetransfers/${id}`)).status === 404
    await until('the entity disappears', isGone, { timeoutMs: 20_000 })
  })

  t.test('download on host 456, through transfer_url and proxy_url', async (t) => {
    const { id, url, proxyUrl } = await system.transferring(
      '<disk id="123"/><host id="456"/><direction>download</direction>',
    )
    for (const from of [url, proxyUrl]) {
      const copy = join(system.dir, 'copy.img')
      t.equal((await system.download(from, copy)).status, 200)
      t.ok(readFileSync(copy).equals(data))
    }
    t.equal((await system.upload(url, file)).status, 403, 'a download may not write')
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    await system.diskStatus('123', 'ok')
  })

  t.test('upload through proxy_url', async (t) => {
    await system.addDisk('124', 'raw', data.length)
    const { id, proxyUrl } = await system.transferring('<disk id="124"/><host id="456"/>')
    t.equal((await system.upload(proxyUrl, file)).status, 200)
    t.equal(tag(await system.phase(id, 'transferring'), 'direction'), 'upload')
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
    const image = tag(await system.diskStatus('124', 'ok'), 'image_id') ?? ''
    t.ok(readFileSync(join(system.images, image)).equals(data))
  })

  t.test('the same with JSON', async (t) => {
    const json = 'application/json'
    const sizes = { initial_size: data.length, provisioned_size: data.length }
    const disk = { id: '125', name: 'json', format: 'raw', ...sizes }
    t.match(JSON.parse(await system.post('disks', JSON.stringify(disk), json)), { id: '125' })
    await system.diskStatus('125', 'ok')
    const body = JSON.stringify({ disk: { id: '125' }, direction: 'upload' })
    const { id } = JSON.parse(await system.post('imagetransfers', body, json)) as { id: string }
    await system.phase(id, 'transferring')
    const { text } = await system.get(`imagetransfers/${id}`, '-H', `Accept: ${json}`)
    const seen = JSON.parse(text) as { phase: string; transfer_url: string }
    t.equal(seen.phase, 'transferring')
    t.equal((await system.upload(seen.transfer_url, file)).status, 200)
    await system.post(`imagetransfers/${id}/finalize`, '{}', json)
    const reply = await system.get(`imagetransfers/${id}?wait=20&phase=finalizing_success`)
    t.match(tag(reply.text, 'phase'), 'finished_success')
    await system.diskStatus('125', 'ok')
  })

  t.test('events, from the first phase until the entity disappears', async (t) => {
    const { id, proxyUrl } = await system.transferring('<disk id="125"/>')
    const events = system.curl('-N', `${system.url}/imagetransfers/${id}/events`)
    t.equal((await system.upload(proxyUrl, file)).status, 200)
    await system.act(id, 'finalize')
    const { status, text } = await events
    t.equal(status, 200)
    const seen = [...text.matchAll(/^data: (\{.*"phase".*\})$/gm)].map(
      ([, json = '']) => JSON.parse(json) as { phase: string; transferred: number },
    )
    t.match(seen[0], { phase: 'transferring' })
    t.match(seen.at(-1), { phase: 'finished_success', transferred: data.length })
    t.match(text, /^event: end$/m)
    t.equal((await system.get(`imagetransfers/${id}`)).status, 404)
  })

  t.test('a host that there is not, a disk that is used, a disk that there is not', async (t) => {
    const post = (body: string) =>
      system.curl('-H', 'Content-Type: application/xml', '-d', body, `${system.url}/imagetransfers`)
    const transfer = (more: string) => post(`<image_transfer>${more}</image_transfer>`)
    t.equal((await transfer('<disk id="125"/><host id="457"/>')).status, 404)
    t.equal((await transfer('<disk id="none"/>')).status, 404)
    const lost = '<storage_domains><storage_domain id="none"/></storage_domains>'
    const disk = `<disk><format>raw</format><provisioned_size>512</provisioned_size>${lost}</disk>`
    await t.rejects(system.post('disks', disk), /404.*There is no storage domain none; see/s)
    const { id } = await system.transferring('<disk id="125"/>')
    const refused = await transfer('<disk id="125"/>')
    t.equal(refused.status, 409)
    t.match(refused.text, '<reason>Operation Failed</reason>')
    await system.act(id, 'finalize')
    await system.phase(id, 'finished_success')
  })

  t.test(
    'SIGHUP reads the certificate again, SIGTERM ends streams and then the service',
    async (t) => {
      await system.reload()
      const { id, ticket } = await system.transferring('<disk id="125"/>')
      const events = spawnCurl(system, `${system.url}/imagetransfers/${id}/events`)
      await until('the stream has begun', () => events.text().includes('"phase":"transferring"'))
      await system.stop()
      t.equal(await events.ended, 0)
      t.equal((await system.daemon.ticket(ticket)).uuid, ticket, 'the transfer goes on without it')
      await system.start()
      await system.act(id, 'finalize')
      await system.phase(id, 'finished_success')
    },
  )

  t.test('passwords: changed while it runs, and refused when wrong', async (t) => {
    t.equal((await system.get('')).status, 200)
    t.equal(await system.setPassword('other'), 0)
    t.equal((await system.get('')).status, 401)
    t.equal(await system.setPassword(), 0)
    t.equal((await system.get('')).status, 200)
    t.equal(await system.setPassword('', 'somebody'), 1, 'an empty one')
    t.equal(await system.command(['passwd', '-c', system.dir, 'a', 'b'], ''), 2)
  })
})

/** curl that shows what comes as it comes. */
function spawnCurl(system: TransferSystem, url: string) {
  const login = ['-u', 'admin@internal:secret']
  const child = spawn('curl', ['-sN', '--cacert', system.caFile, ...login, url])
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { text: () => text, ended }
}
