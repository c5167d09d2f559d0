/**
 * The shell of the API's documentation, word by word, against what `npm start -- --transfers` starts. Only
 * what it leaves open is filled in: hosts, ids, the file of the authority, names of files.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ready, start, userDir } from '../support/start.js'
import { run, without } from '../support/tools.js'
import { idOf, tag } from '../support/transfers.js'
import { until } from '../support/wait.js'

const diskXml = (domain: string, id = ''): string => `<disk${id}>
  <storage_domains>
    <storage_domain id="${domain}"/>
  </storage_domains>
  <alias>mydisk</alias>
  <initial_size>1073741824</initial_size>
  <provisioned_size>1073741824</provisioned_size>
  <format>raw</format>
</disk>
`

t.test('the documentation, with curl', { skip: without('curl', 'qemu-img') }, async (t) => {
  const dir = userDir(t)
  const text = await ready(start(t, dir, ['--transfers', 'kept']))
  const said = (name: string): string =>
    new RegExp(`^  ${name} +(.*)$`, 'm').exec(text)?.[1] ?? 'none'
  const engine = new URL(said('API')).origin
  const ca = /--cacert (\S+)/.exec(text)?.[1] ?? 'none'
  const data = randomBytes(5 * 2 ** 20 + 1234)
  const file = join(dir, 'disk.img')
  writeFileSync(file, data)
  writeFileSync(join(dir, 'login'), `user = "${said('user')}:${said('password')}"\n`)
  const xml = `-H 'Content-Type: application/xml' -H 'Accept: application/xml'`

  const sh = (line: string): Promise<string> => run('sh', ['-ec', line], { cwd: dir })
  /** `path` of the API; the password is no argument that others on the machine see. */
  const api = (path: string, more = ''): Promise<string> =>
    sh(`curl --fail-with-body --cacert ${ca} --config login ${more} ${engine}${path}`)
  const post = (path: string, body: string): Promise<string> => {
    writeFileSync(join(dir, 'body.xml'), body)
    return api(path, `${xml} -d @body.xml`)
  }
  const poll = (what: string, path: string, element: string, value: string): Promise<string> =>
    until(
      what,
      async () => {
        const answer = await api(path)
        return tag(answer, element) === value && answer
      },
      { timeoutMs: 20_000 },
    )
  const isDisk = (id: string, status: string): Promise<string> =>
    poll(`disk ${status}`, `/ovirt-engine/api/disks/${id}`, 'status', status)
  const transfer = async (disk: string, direction: string): Promise<[string, string, string]> => {
    const body = `<image_transfer>\n  <disk id="${disk}"/>\n  <direction>${direction}</direction>\n</image_transfer>\n`
    const answer = await post('/ovirt-engine/api/imagetransfers', body)
    t.equal(tag(answer, 'direction'), direction)
    t.match(tag(answer, 'phase'), /^(initializing|transferring)$/)
    const path = `/ovirt-engine/api/imagetransfers/${idOf(answer)}`
    const now = await poll('transferring', path, 'phase', 'transferring')
    const url = tag(now, 'transfer_url') ?? ''
    const proxyUrl = tag(now, 'proxy_url') ?? ''
    for (const each of [url, proxyUrl]) t.match(each, /^https:\/\/[^/]+\/images\/[0-9a-f-]{36}$/)
    t.not(new URL(url).port, new URL(proxyUrl).port)
    return [path, url, proxyUrl]
  }
  /** Without a type curl says that it is a form. */
  const finalize = async (path: string): Promise<void> => {
    t.match(await api(`${path}/finalize`, `-d '<action />'`), '<status>complete</status>')
    await poll('success', path, 'phase', 'finished_success')
  }
  const domain = idOf(await api('/ovirt-engine/api/storagedomains'))

  t.test('upload to a new disk of 1 GiB', async (t) => {
    const disk = await post('/ovirt-engine/api/disks', diskXml(domain))
    t.equal(tag(disk, 'alias'), 'mydisk')
    await isDisk(idOf(disk), 'ok')
    const [path, url] = await transfer(idOf(disk), 'upload')
    await sh(`curl --cacert ${ca} --upload-file ${file} -X PUT ${url}`)
    await finalize(path)
    const image = tag(await isDisk(idOf(disk), 'ok'), 'image_id') ?? ''
    const volume = join(dir, 'kept', 'disks', image)
    t.equal(statSync(volume).size, 2 ** 30)
    await sh(`cmp -n ${data.length} ${file} ${volume}`)
  })

  t.test('disk 456, up through the proxy, and down from the daemon and the proxy', async (t) => {
    const size = String(data.length - 1234)
    const small = diskXml(domain, ' id="456"').replaceAll('1073741824', size)
    t.equal(idOf(await post('/ovirt-engine/api/disks', small)), '456')
    await isDisk('456', 'ok')
    writeFileSync(file, data.subarray(0, Number(size)))
    const [up, , proxyUrl] = await transfer('456', 'upload')
    await sh(`curl --cacert ${ca} --upload-file ${file} -X PUT ${proxyUrl}`)
    await finalize(up)
    await isDisk('456', 'ok')
    const [down, ...urls] = await transfer('456', 'download')
    for (const url of urls) {
      await sh(`curl --cacert ${ca} ${url} -o copy.img`)
      t.ok(readFileSync(join(dir, 'copy.img')).equals(readFileSync(file)))
    }
    await finalize(down)
  })

  t.test('a qcow2 image into a disk of that format, and back: the same bytes', async (t) => {
    await sh('qemu-img convert -f raw -O qcow2 disk.img image.qcow2')
    const cow = diskXml(domain, ' id="qcow2"').replace('>raw<', '>cow<')
    await post('/ovirt-engine/api/disks', cow.replaceAll('1073741824', String(16 * 2 ** 20)))
    await isDisk('qcow2', 'ok')
    const [up, url] = await transfer('qcow2', 'upload')
    await sh(`curl --cacert ${ca} --upload-file image.qcow2 -X PUT ${url}`)
    await finalize(up)
    const [down, , proxyUrl] = await transfer('qcow2', 'download')
    await sh(`curl --cacert ${ca} ${proxyUrl} -o back.qcow2`)
    await finalize(down)
    t.equal(await sh('cmp image.qcow2 back.qcow2'), '')
  })

  t.test('what is no qcow2 image: finished_failure, and the disk is illegal', async () => {
    const cow = diskXml(domain, ' id="noise"').replace('>raw<', '>cow<')
    await post('/ovirt-engine/api/disks', cow.replaceAll('1073741824', String(16 * 2 ** 20)))
    await isDisk('noise', 'ok')
    const [path, url] = await transfer('noise', 'upload')
    await sh(`curl --cacert ${ca} --upload-file ${file} -X PUT ${url}`)
    await api(`${path}/finalize`, `-d '<action />'`)
    await poll('failure', path, 'phase', 'finished_failure')
    await isDisk('noise', 'illegal')
  })
})
