/** Tokens at proxies that share nothing but public keys. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { startDaemon, type Sections } from '../../support/daemon.js'
import { request, type Reply } from '../../support/http.js'
import { startProxy } from '../../support/proxy.js'
import { run, without } from '../../support/tools.js'
import {
  AUDIENCE,
  claims,
  ed25519,
  pemOf,
  token,
  type ClaimFields,
} from '../../core/tickets/signed/tokens.js'
import { startFakeDaemon } from '../../support/fake-daemon.js'
import { testPki } from '../../support/pki.js'

const dir = mkdtempSync(join(tmpdir(), 'imageio-proxy-signed-'))
t.teardown(() => rmSync(dir, { recursive: true, force: true }))
const keys = join(dir, 'keys')
mkdirSync(keys)
const pair = ed25519()
writeFileSync(join(keys, 'engine.pem'), pemOf(pair))

const sign = (fields: ClaimFields): string =>
  token(pair, { alg: 'EdDSA', kid: 'engine' }, claims(fields))
const bearer = (text: string) => ({ authorization: `Bearer ${text}` })
const signed = (): Sections => ({ signed_tickets: { enable: true, keys, audience: AUDIENCE } })

t.test('proxies behind a load balancer need no shared state', async (t) => {
  const daemon = await startDaemon(t)
  const proxies = [await startProxy(t, signed()), await startProxy(t, signed())]
  const content = randomBytes(200_000)
  const image = await daemon.addImage(content)
  const fields = { url: `${daemon.url}/images/${image.id}`, size: content.length }
  const text = sign({ ...fields, ops: ['write'], transfer_id: 'backup-1' })
  for (const [index, proxy] of proxies.entries()) {
    const ask = (method: string, options: Parameters<typeof request>[3] = {}): Promise<Reply> =>
      request(proxy.remote, method, '/images/backup-1', {
        ...options,
        headers: { ...bearer(text), ...options.headers },
      })
    t.ok((await ask('GET')).body.equals(content))
    const part = await ask('GET', { headers: { range: 'bytes=10-19' } })
    t.ok(part.body.equals(content.subarray(10, 20)))
    t.equal((await request(proxy.remote, 'GET', `/images/${text}`)).status, 200, 'in the path')
    const piece = randomBytes(1000)
    const range = `bytes ${index * 1000}-*/*`
    const reply = await ask('PUT', { body: piece, headers: { 'content-range': range } })
    t.equal(reply.status, 200)
    piece.copy(content, index * 1000)
    t.ok(image.bytes().equals(content))
    t.match((await ask('OPTIONS')).json, { max_writers: 1 })
    t.equal((await ask('GET', { headers: { range: 'bytes=0-200000' } })).status, 416)
  }
  const control = proxies[0]!.control
  const [ticket] = (await request(control, 'GET', '/tickets')).json as { moved: number }[]
  t.ok(ticket && ticket.moved > content.length, 'the proxy keeps account of it')
})

t.test('a revocation ends a token at this proxy', async (t) => {
  const daemon = await startDaemon(t)
  const proxy = await startProxy(t, signed())
  const image = await daemon.addImage(randomBytes(8192))
  const url = `${daemon.url}/images/${image.id}`
  const text = sign({ url, size: 8192, transfer_id: 'backup-2' })
  const get = (): Promise<Reply> =>
    request(proxy.remote, 'GET', '/images/backup-2', { headers: bearer(text) })
  t.equal((await get()).status, 200)
  t.match((await request(proxy.control, 'PUT', '/revocations/backup-2')).status, 200)
  t.equal((await get()).status, 403)
})

t.test('no daemon hears of a token that is no good', async (t) => {
  const fake = await startFakeDaemon(t, ({ socket }) =>
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret'),
  )
  const proxy = await startProxy(t, {
    ...signed(),
    proxy: { allowed_daemons: `localhost:${fake.port}`, allow_http: true },
  })
  const good = { url: `http://localhost:${fake.port}/images/x`, size: 6, transfer_id: 'x' }
  const now = Math.floor(Date.now() / 1000)
  const other = ed25519()
  const bad: [string, string][] = [
    ['another key', token(other, { alg: 'EdDSA', kid: 'engine' }, claims(good))],
    ['another audience', sign({ ...good, aud: 'elsewhere' })],
    ['expired', sign({ ...good, iat: now - 600, exp: now - 300 })],
    ['not yet', sign({ ...good, nbf: now + 600 })],
    ['a daemon that is not allowed', sign({ ...good, url: 'http://127.0.0.1:1/images/x' })],
    ['a file', sign({ ...good, url: 'file:///etc/passwd' })],
    ['tampered', `${sign(good).slice(0, -6)}AAAAAA`],
  ]
  for (const [name, text] of bad) {
    const reply = await request(proxy.remote, 'GET', '/images/x', { headers: bearer(text) })
    t.equal(reply.status, 403, name)
    const inPath = await request(proxy.remote, 'GET', `/images/${text}`)
    t.equal(inPath.status, 403, name)
    t.equal(reply.text, (await request(proxy.remote, 'GET', '/images/unknown')).text, name)
  }
  t.equal(fake.connections(), 0)
  const reply = await request(proxy.remote, 'GET', '/images/x', { headers: bearer(sign(good)) })
  t.equal(reply.status, 200)
})

t.test('a browser may ask whether it may send a token', async (t) => {
  const proxy = await startProxy(t, signed())
  const headers = {
    origin: 'https://portal.example',
    'access-control-request-method': 'GET',
    'access-control-request-headers': 'authorization',
  }
  const reply = await request(proxy.remote, 'OPTIONS', '/images/backup-3', { headers })
  t.equal(reply.status, 200)
  t.match(reply.headers['access-control-allow-headers'], /authorization|\*/i)
})

t.test('by imageioctl and curl', { skip: without('curl') }, async (t) => {
  const daemon = await startDaemon(t)
  const content = randomBytes(50_000)
  const image = await daemon.addImage(content)
  const ctl = (...args: string[]) => promisify(execFile)('bin/imageioctl', args)
  await ctl('make-key', join(dir, 'ctl'))
  copyFileSync(join(dir, 'ctl.pem'), join(keys, 'ctl.pem'))
  const proxy = await startProxy(t, signed())
  const { stdout } = await ctl(
    ...['sign-ticket', '--key', join(dir, 'ctl.key'), '--url', `${daemon.url}/images/${image.id}`],
    ...['--size', String(content.length), '--ops', 'read', '--expires', '1h'],
    ...['--transfer-id', 'copy-1', '--audience', AUDIENCE, '--print-url', proxy.url],
  )
  const file = join(dir, 'copy')
  await run('curl', [
    '-sS',
    '--fail',
    '--cacert',
    testPki('proxy').caFile,
    '-o',
    file,
    stdout.trim(),
  ])
  await run('cmp', [file, image.file])
})
