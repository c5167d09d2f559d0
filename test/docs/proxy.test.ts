/** docs/proxy.md: its tables are the schema, its examples load, and the servers in front of it work. */
import t, { type Test } from 'tap'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { loadProxyConfig, schema } from '../../proxy/config.js'
import { freePort, type TicketFields } from '../support/daemon.js'
import { request } from '../support/http.js'
import { testPki } from '../support/pki.js'
import { startPair, startProxy } from '../support/proxy.js'
import { until } from '../support/wait.js'
import { Wire } from '../support/wire.js'

const page = readFileSync('docs/proxy.md', 'utf8')
const MiB = 1024 * 1024

t.test('the tables are the schema', async (t) => {
  for (const name of ['proxy', 'backend_http'] as const) {
    const from = page.indexOf(`\n### [${name}]\n`)
    const section = page.slice(from, page.indexOf('\n##', from + 5))
    const rows = section.matchAll(/^\| `(\w+)` *\| (\w+) *\| (.*?) *\| /gm)
    const documented = Array.from(rows, ([, key, type, value]) => [key, type, value])
    const expected = Object.entries(schema[name]).map(([key, option]) => {
      const value = option.default === '' ? 'empty' : `\`${option.default}\``
      return [key, option.type, value]
    })
    t.strictSame(documented, expected)
  }
})

t.test('the examples of a configuration load without a warning', async (t) => {
  const files = blocks('ini').map((text, index) => [`${index}.conf`, text])
  const dir = t.testdir({ 'conf.d': Object.fromEntries(files) as Record<string, string> })
  const { config, warnings } = loadProxyConfig(dir)
  t.strictSame(warnings, [])
  t.equal(config.proxy.allowed_daemons, '*.hosts.example.com')
  t.equal(config.signed_tickets.audience, 'proxy.example.com')
})

t.test('nginx in front', needs('nginx'), async (t) => {
  await tryFront(t, async (dir, port, [first, second]) => {
    const { caFile } = testPki('proxy')
    const front = testPki()
    const server = replaced(block('nginx'), {
      'listen 443 ssl': `listen 127.0.0.1:${port} ssl`,
      '/etc/nginx/images.pem': front.certFile,
      '/etc/nginx/images.key': front.keyFile,
      '/etc/nginx/proxy-ca.pem': caFile,
      'proxy1.example.com:54323': `127.0.0.1:${first}`,
      'proxy2.example.com:54323': `127.0.0.1:${second}`,
      'proxy.example.com;': 'localhost;',
      '/var/log/nginx/images.log': join(dir, 'images.log'),
    })
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((name) => `${name}_temp_path ${dir}/${name};`)
      .join('\n')
    const file = join(dir, 'nginx.conf')
    writeFileSync(
      file,
      `daemon off;\npid ${dir}/pid;\nerror_log stderr error;\nevents {}\nhttp {\n${temporary}\n${server}\n}\n`,
    )
    return ['nginx', '-p', dir, '-c', file, '-e', 'stderr']
  })
})

t.test('HAProxy in front', needs('haproxy'), async (t) => {
  await tryFront(t, async (dir, port, [first, second]) => {
    const front = testPki()
    const pem = join(dir, 'images.pem')
    writeFileSync(pem, readFileSync(front.certFile, 'utf8') + readFileSync(front.keyFile, 'utf8'))
    const file = join(dir, 'haproxy.cfg')
    const text = replaced(block('haproxy'), {
      'bind :443': `bind 127.0.0.1:${port}`,
      '/etc/haproxy/images.pem': pem,
      'proxy1.example.com:54323': `127.0.0.1:${first}`,
      'proxy2.example.com:54323': `127.0.0.1:${second}`,
      'verifyhost proxy.example.com': 'verifyhost localhost',
      '/etc/haproxy/proxy-ca.pem': testPki('proxy').caFile,
    })
    writeFileSync(file, text)
    return ['haproxy', '-db', '-f', file]
  })
})

/**
 * Two proxies behind it: an upload that is on its way while it is sent, a download of a part, a
 * refusal; each transfer keeps to its proxy, and nobody notices when one of them ends.
 */
async function tryFront(
  t: Test,
  prepare: (dir: string, port: number, proxyPorts: [number, number]) => Promise<string[]>,
): Promise<void> {
  const pair = await startPair(t)
  const other = await startProxy(t)
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  const port = await freePort()
  const [command = '', ...args] = await prepare(dir, port, [pair.proxy.port, other.port])
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => void (output += text))
  }
  const ended = new Promise((resolve) => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
    rmSync(dir, { recursive: true, force: true })
  })
  const front = { host: '127.0.0.1', port, ca: testPki().ca }
  await until('it listens', () =>
    Wire.open(front).then(
      (wire) => (wire.destroy(), true),
      () => false,
    ),
  )
  const image = await addImageAtBoth(8 * MiB, { ops: ['read', 'write'] })
  const content = randomBytes(8 * MiB)
  const wire = await Wire.open(front)
  t.teardown(() => wire.destroy())
  const head = `PUT ${image.url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${content.length}\r\n\r\n`
  await wire.send(Buffer.concat([Buffer.from(head), content.subarray(0, 4 * MiB)]))
  await until('the first half is stored', () =>
    image.bytes().subarray(0, MiB).equals(content.subarray(0, MiB)),
  )
  await wire.send(content.subarray(4 * MiB))
  t.equal((await wire.response()).status, 200)
  t.ok(image.bytes().equals(content))
  const part = await request(front, 'GET', image.url, { headers: { range: 'bytes=5-1000004' } })
  t.equal(part.status, 206)
  t.ok(part.body.equals(content.subarray(5, 1_000_005)))
  t.equal((await request(front, 'GET', '/images/none')).status, 403)

  const images = await Promise.all(Array.from({ length: 8 }, () => addImageAtBoth(8192)))
  const readAll = async (range: string): Promise<void> => {
    for (const { url } of images) {
      t.equal((await request(front, 'GET', url, { headers: { range } })).status, 206)
    }
  }
  await readAll('bytes=0-9')
  await readAll('bytes=10-29')
  for (const { id } of images) {
    const infos = await Promise.all([pair.proxy, other].map((proxy) => proxy.ticket(id)))
    t.strictSame(
      new Set(infos.map(({ transferred }) => transferred)),
      new Set([0, 30]),
      'one proxy has all',
    )
  }
  for (let count = 0; count < 20; count++) {
    t.equal(await refusedUpload(front, `unknown-${count}`), '403')
  }
  await readAll('bytes=30-39')
  await pair.proxy.stop()
  await readAll('bytes=40-49')
  const log = join(dir, 'images.log')
  const logged = output + (existsSync(log) ? readFileSync(log, 'utf8') : '')
  for (const { id } of images) t.notMatch(logged, id, 'ids are not logged')

  async function addImageAtBoth(size: number, fields: TicketFields = { ops: ['read'] }) {
    const image = await pair.addImage(size, fields)
    const url = `${pair.daemon.url}/images/${image.id}`
    await other.addTicket({ uuid: image.id, size, url, ...fields })
    return image
  }
}

interface Address {
  readonly host: string
  readonly port: number
}

/** The status of an upload that a proxy refuses while it comes; to be tried by anybody. */
async function refusedUpload({ host, port }: Address, id: string): Promise<string> {
  const url = `https://${host}:${port}/images/${id}`
  const command = `head -c 64M /dev/zero | curl -sS --cacert "$1" -T - -o /dev/null -w '%{http_code}' "$0"`
  const { stdout } = await promisify(execFile)('sh', ['-c', command, url, testPki().caFile])
  return stdout
}

/** The only example in that language. */
function block(language: string): string {
  const [text, ...others] = blocks(language)
  if (text === undefined || others.length > 0) throw new Error(`not one example in ${language}`)
  return text
}

function blocks(language: string): string[] {
  const found = page.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 'gs'))
  return Array.from(found, ([, text = '']) => text)
}

function replaced(text: string, changes: Readonly<Record<string, string>>): string {
  for (const [from, to] of Object.entries(changes)) {
    if (!text.includes(from)) throw new Error(`the example has no ${from}`)
    text = text.replace(from, to)
  }
  return text
}

function needs(command: string): { skip: string | false } {
  const isThere = spawnSync(command, ['-v']).error === undefined
  return { skip: !isThere && `${command} is not installed` }
}
