/** What a token lets its bearer do, in every place where it may stand. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'
import { AUDIENCE } from '../../core/tickets/signed/tokens.js'
import { bearer, makeSite } from './signed-site.js'

t.test('a token is a ticket', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })
  const ask = (method: string, url: string, options = {}): Promise<Reply> =>
    request(daemon.remote, method, url, options)

  t.test('in the header, beside the transfer in the path', async (t) => {
    const { bytes, fields } = site.image()
    const url = `/images/${String(fields['transfer_id'])}`
    const auth = bearer(site.sign({ ...fields, ops: ['read'], filename: 'disk.raw' }))
    const reply = await ask('GET', url, auth)
    t.equal(reply.status, 200)
    t.ok(reply.body.equals(bytes))
    t.match(reply.headers['content-disposition'], /disk\.raw/)
    const part = await ask('GET', url, { headers: { ...auth.headers, range: 'bytes=100-199' } })
    t.ok(part.body.equals(bytes.subarray(100, 200)))
    t.match((await ask('GET', `${url}/extents`, auth)).json, [{ start: 0, length: 8192 }])
    t.equal((await ask('GET', `${url}/checksum`, auth)).status, 200)
    t.equal((await ask('HEAD', url, auth)).status, 200)
    t.match((await ask('OPTIONS', url, auth)).json, {
      size: 8192,
      transfer_id: fields['transfer_id'],
    })
  })

  t.test('in place of the id', async (t) => {
    const { file, fields } = site.image()
    const url = `/images/${site.sign({ ...fields, ops: ['write'] })}`
    const data = randomBytes(8192)
    t.equal((await ask('PUT', url, { body: data })).status, 200)
    t.ok(readFileSync(file).equals(data))
    t.ok((await ask('GET', url)).body.equals(data), 'write includes read')
    const zero = { body: JSON.stringify({ op: 'zero', offset: 0, size: 4096, flush: true }) }
    t.equal((await ask('PATCH', url, zero)).status, 200)
    t.ok(readFileSync(file).subarray(0, 4096).equals(Buffer.alloc(4096)))
    t.equal((await ask('GET', `${url}/checksum/algorithms`)).status, 200)
    t.equal((await ask('GET', `${url}/extents`)).status, 200)
  })

  t.test('over HTTP/2 and the local socket', async (t) => {
    const { bytes, fields } = site.image()
    const auth = bearer(site.sign(fields))
    const url = `/images/${String(fields['transfer_id'])}`
    const session = await openH2(daemon.remote)
    t.teardown(() => session.destroy())
    for (let count = 0; count < 5; count++) {
      t.ok((await requestH2(session, 'GET', url, auth)).body.equals(bytes))
    }
    session.close()
    t.ok((await request(daemon.local, 'GET', url, auth)).body.equals(bytes))
  })

  t.test('it is bound to its ops and size', async (t) => {
    const { fields, file, bytes } = site.image()
    const url = `/images/${site.sign({ ...fields, size: 4096, ops: ['read'] })}`
    t.equal((await ask('GET', url)).body.length, 4096)
    t.equal((await ask('GET', url, { headers: { range: 'bytes=4096-' } })).status, 416)
    const denied = await ask('PUT', url, { body: 'x' })
    t.equal(denied.status, 403)
    t.equal(denied.text, 'the ticket does not allow write\n')
    t.ok(readFileSync(file).equals(bytes))
  })

  t.test('it is listed, with progress and connections, and is shown by its id', async (t) => {
    const { fields } = site.image()
    const url = `/images/${String(fields['transfer_id'])}`
    const agent = keepAlive(daemon.remote)
    t.teardown(() => agent.destroy())
    const auth = bearer(site.sign(fields))
    await ask('GET', url, { ...auth, agent })
    const list = (await daemon.controlRequest('GET', '/tickets')).json as Record<string, unknown>[]
    const listed = list.find((ticket) => ticket['transfer_id'] === fields['transfer_id'])
    t.match(listed, {
      signed: true,
      transferred: 8192,
      moved: 8192,
      connections: 1,
      uuid: /-signed$/,
    })
    const id = String(listed?.['uuid'])
    t.match(await daemon.ticket(id), { signed: true, size: 8192, url: fields['url'] })
    t.equal((await ask('GET', `/images/${id}`)).status, 403, 'which is no credential')
    t.equal((await daemon.controlRequest('PATCH', `/tickets/${id}`, { timeout: 9 })).status, 400)
    agent.destroy()
    await daemon.ticketWhen(id, 'the connection is gone', (info) => info.connections === 0)
  })

  t.test('installed tickets go on, whatever the header says', async (t) => {
    const file = site.image()
    const image = await daemon.addTicketFor(file.file, { size: 8192 })
    t.equal((await ask('GET', image.url)).status, 200)
    t.equal((await ask('GET', image.url, bearer('nonsense'))).status, 200)
  })

  t.test('many requests with one token on one connection', async (t) => {
    const { fields, bytes } = site.image(4096)
    const url = `/images/${site.sign(fields)}`
    const agent = keepAlive(daemon.remote)
    for (let count = 0; count < 300; count++) {
      const reply = await ask('GET', url, { agent })
      if (!reply.body.equals(bytes)) t.fail(`request ${count}`)
    }
    agent.destroy()
    const admitted = daemon
      .logText()
      .split('\n')
      .filter((line) => line.includes('ticket admitted'))
    const ours = admitted.filter((line) => line.includes(`"${String(fields['transfer_id'])}"`))
    t.equal(ours.length, 1)
  })
})

t.test('a page of another origin may send a token', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })
  const { fields } = site.image()
  const url = `/images/${String(fields['transfer_id'])}`
  const preflight = {
    origin: 'https://portal.example',
    'access-control-request-method': 'PUT',
    'access-control-request-headers': 'authorization,content-range',
  }
  const asked = await request(daemon.remote, 'OPTIONS', url, { headers: preflight })
  t.equal(asked.status, 200, 'a browser asks without the token')
  t.equal(asked.text, '')
  t.match(asked.headers['access-control-allow-headers'], /\bauthorization\b/i)
  t.match(asked.headers['access-control-allow-methods'], /PUT/)
  const { origin, 'access-control-request-method': method } = preflight
  const rest = { origin, 'access-control-request-method': method }
  t.equal((await request(daemon.remote, 'OPTIONS', url, { headers: rest })).status, 403)
  const { headers } = bearer(site.sign(fields))
  const reply = await request(daemon.remote, 'GET', url, {
    headers: { ...headers, origin: 'https://portal.example' },
  })
  t.equal(reply.status, 200)
  t.equal(reply.headers['access-control-allow-origin'], '*')
})

t.test(
  'imageioctl signs, curl downloads, imageioctl revokes',
  { skip: without('curl') },
  async (t) => {
    const site = makeSite(t)
    const daemon = await startDaemon(t, { config: site.config })
    const ctl = async (...args: string[]): Promise<string> =>
      (await promisify(execFile)('bin/imageioctl', args)).stdout
    await ctl('make-key', join(site.keys, 'backup'))
    const { file, fields, bytes } = site.image()
    const id = String(fields['transfer_id'])
    const key = ['--key', join(site.keys, 'backup.key')]
    const sign = (...more: string[]): Promise<string> =>
      ctl(
        ...[
          'sign-ticket',
          ...key,
          '--url',
          `file://${file}`,
          '--size',
          '8192',
          '--audience',
          AUDIENCE,
        ],
        ...['--transfer-id', id, ...more],
      )
    const text = (await sign()).trim()
    await until(
      'the new key is known',
      async () => {
        return (await request(daemon.remote, 'HEAD', `/images/${text}`)).status === 200
      },
      { timeoutMs: 15_000 },
    )
    const curl = (...args: string[]): Promise<string> =>
      run('curl', ['--silent', '--show-error', '--fail', '--cacert', daemon.caFile, ...args])
    const out = join(site.dir, 'out')
    await curl('-H', `Authorization: Bearer ${text}`, '-o', out, `${daemon.url}/images/${id}`)
    t.ok(readFileSync(out).equals(bytes), 'Bearer')
    const url = (await sign('--ops', 'write', '--print-url', daemon.url)).trim()
    await curl('-o', out, url)
    t.ok(readFileSync(out).equals(bytes), 'path')
    writeFileSync(out, randomBytes(8192))
    await curl('-T', out, url)
    t.ok(readFileSync(file).equals(readFileSync(out)), 'upload')

    t.match(await ctl('-c', daemon.dir, 'list'), new RegExp(`-signed +${id} `))
    await ctl('-c', daemon.dir, 'revoke', id)
    t.match(await ctl('-c', daemon.dir, 'revocations'), id)
    await t.rejects(curl(url), { message: /403/ })
    await ctl('-c', daemon.dir, 'unrevoke', id)
    await t.resolves(curl('-o', out, url))
  },
)
