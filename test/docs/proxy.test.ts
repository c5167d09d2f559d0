/** docs/proxy.md: its tables are the schema, its examples load, and the servers in front of it work. */
import t, { type Test } from 'tap'
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadProxyConfig, schema } from '../../proxy/config.js'
import { freePort } from '../support/daemon.js'
import { request } from '../support/http.js'
import { testPki } from '../support/pki.js'
import { startPair } from '../support/proxy.js'
import { until } from '../support/wait.js'
import { Wire, type Target } from '../support/wire.js'

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
  await tryFront(t, async (dir, port, proxyPort) => {
    const { caFile } = testPki('proxy')
    const front = testPki()
    const server = replaced(block('nginx'), {
      'listen 443 ssl': `listen 127.0.0.1:${port} ssl`,
      '/etc/nginx/images.pem': front.certFile,
      '/etc/nginx/images.key': front.keyFile,
      '/etc/nginx/proxy-ca.pem': caFile,
      'proxy.example.com:54323': `localhost:${proxyPort}`,
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
  await tryFront(t, async (dir, port, proxyPort) => {
    const front = testPki()
    const pem = join(dir, 'images.pem')
    writeFileSync(pem, readFileSync(front.certFile, 'utf8') + readFileSync(front.keyFile, 'utf8'))
    const file = join(dir, 'haproxy.cfg')
    const text = replaced(block('haproxy'), {
      'bind :443': `bind 127.0.0.1:${port}`,
      '/etc/haproxy/images.pem': pem,
      'proxy1.example.com:54323': `127.0.0.1:${proxyPort}`,
      'proxy2.example.com:54323': `127.0.0.1:${proxyPort}`,
    }).replaceAll('/etc/haproxy/proxy-ca.pem', testPki('proxy').caFile)
    writeFileSync(file, text)
    return ['haproxy', '-db', '-f', file]
  })
})

/** An upload that is on its way while it is sent, a download of a part, and a refusal. */
async function tryFront(
  t: Test,
  prepare: (dir: string, port: number, proxyPort: number) => Promise<string[]>,
): Promise<void> {
  const pair = await startPair(t)
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  const port = await freePort()
  const [command = '', ...args] = await prepare(dir, port, pair.proxy.port)
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  t.teardown(async () => {
    child.kill('SIGTERM')
    await ended
    rmSync(dir, { recursive: true, force: true })
  })
  const front: Target = { host: '127.0.0.1', port, ca: testPki().ca }
  await until('it listens', () =>
    Wire.open(front).then(
      (wire) => (wire.destroy(), true),
      () => false,
    ),
  )
  const image = await pair.addImage(8 * MiB)
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
