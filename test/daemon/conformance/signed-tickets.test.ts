import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { startDaemon, type Daemon, type Sections } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import {
  AUDIENCE,
  claims,
  ed25519,
  pemOf,
  token,
  type ClaimFields,
  type Pair,
} from '../../core/tickets/signed/tokens.js'

interface Site {
  readonly dir: string
  readonly pair: Pair
  readonly keys: string
  readonly images: string
  readonly config: Sections
  /** A file of random bytes, and the claims for it. */
  image(size?: number): { file: string; bytes: Buffer; fields: ClaimFields }
  sign(fields: ClaimFields, header?: object): string
}

/** What several servers share: keys, and the directory of images. */
function makeSite(t: Test, settings: Sections[string] = {}): Site {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-signed-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const [keys, images] = [join(dir, 'keys'), join(dir, 'images')]
  mkdirSync(keys)
  mkdirSync(images)
  const pair = ed25519()
  writeFileSync(join(keys, 'engine.pem'), pemOf(pair))
  let count = 0
  return {
    ...{ dir, pair, keys, images },
    config: {
      signed_tickets: {
        ...{ enable: true, keys, audience: AUDIENCE },
        ...{ revocations_file: join(dir, 'revocations.json'), ...settings },
      },
      backend_file: { allowed_paths: images },
    },
    image: (size = 8192) => {
      const file = join(images, `disk-${++count}`)
      const bytes = randomBytes(size)
      writeFileSync(file, bytes)
      return {
        file,
        bytes,
        fields: { url: `file://${file}`, size, transfer_id: `backup-${count}` },
      }
    },
    sign: (fields, header = {}) =>
      token(pair, { alg: 'EdDSA', kid: 'engine', ...header }, claims(fields)),
  }
}

const bearer = (text: string) => ({ headers: { authorization: `Bearer ${text}` } })

function reasons(daemon: Daemon): string[] {
  const refusals = daemon
    .logText()
    .split('\n')
    .filter((line) => line.includes('signed ticket refused'))
  return refusals.map((line) => (JSON.parse(line) as { reason: string }).reason)
}

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

t.test('what is no good is 403 with the text of an unknown ticket', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })
  const { fields } = site.image()
  const now = Math.floor(Date.now() / 1000)
  const unknown = await request(daemon.remote, 'GET', '/images/unknown')
  t.equal(unknown.status, 403)
  const good = site.sign(fields)
  const [head = '', body = '', signature = ''] = good.split('.')
  const cases: [string, string, RegExp][] = [
    ['tampered payload', `${head}.${body.slice(0, -4)}AAAA.${signature}`, /signature/],
    ['wrong key', token(ed25519(), { alg: 'EdDSA', kid: 'engine' }, claims(fields)), /signature/],
    ['wrong audience', site.sign({ ...fields, aud: 'other' }), /^aud/],
    ['over', site.sign({ ...fields, iat: now - 100, exp: now - 50 }), /^exp is over/],
    ['to come', site.sign({ ...fields, nbf: now + 300 }), /^nbf/],
    ['unknown key', site.sign(fields, { kid: 'nobody' }), /^kid/],
    ['none', site.sign(fields, { alg: 'none' }), /^alg/],
    ['crit', site.sign(fields, { crit: ['b64'], b64: false }), /header has/],
    ['nbd', site.sign({ ...fields, url: 'nbd:unix:/run/sock:exportname=x' }), /^url: tokens may/],
    ['http', site.sign({ ...fields, url: 'https://host/images/x' }), /^url/],
  ]
  for (const [name, text, reason] of cases) {
    for (const [url, options] of [
      [`/images/${text}`, {}],
      [`/images/${String(fields['transfer_id'])}`, bearer(text)],
    ] as const) {
      const reply = await request(daemon.remote, 'GET', url, options)
      t.equal(reply.status, 403, name)
      t.equal(reply.text, unknown.text, name)
      t.equal(reply.headers['connection'], 'close', name)
      const seen = await until('the reason is logged', () => reasons(daemon).at(-1))
      t.match(seen, reason, name)
    }
  }
  const path = await request(daemon.remote, 'GET', '/images/backup-other', bearer(good))
  t.equal(path.text, unknown.text)
  t.equal((await request(daemon.remote, 'GET', `/images/${good}`)).status, 200, 'the good one is')
  t.notOk(daemon.logText().includes(good.slice(0, 60)), 'the log has no token')
})

t.test('a URL with a token must fit in a request line', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })
  const { fields } = site.image()
  const largest = site.sign({ ...fields, filename: 'x'.repeat(255), pad: 'y'.repeat(1600) })
  t.ok(largest.length > 2800 && largest.length <= 3072, String(largest.length))
  const url = `/images/${largest}/checksum/algorithms?close=y`
  t.equal((await request(daemon.remote, 'GET', url)).status, 200)
  t.equal((await request(daemon.remote, 'OPTIONS', `/images/${largest}`)).status, 200)
  const larger = site.sign({ ...fields, pad: 'y'.repeat(2200) })
  t.equal((await request(daemon.remote, 'GET', `/images/${larger}`)).status, 403)
  t.equal((await request(daemon.remote, 'GET', `/images/${larger}${'z'.repeat(1000)}`)).status, 414)
})

t.test('tokens name nothing outside of the allowed directories', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })
  const secret = join(site.dir, 'secret')
  writeFileSync(secret, 'x'.repeat(4096))
  symlinkSync(secret, join(site.images, 'link'))
  for (const url of [
    `file://${secret}`,
    `file://${site.images}/../secret`,
    `file://${site.images}/link`,
  ]) {
    const reply = await request(daemon.remote, 'GET', `/images/${site.sign({ url, size: 4096 })}`)
    t.equal(reply.status, 500, url)
    t.notMatch(reply.text, 'xxxx')
  }
})

t.test('revocation', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })

  t.test('ends what runs at once, and every token of the transfer', async (t) => {
    const { fields, file } = site.image(64 * 1024 * 1024)
    const id = String(fields['transfer_id'])
    const text = site.sign(fields)
    const wire = await Wire.open(daemon.remote, { isReading: false })
    t.teardown(() => wire.destroy())
    wire.send(`GET /images/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${text}\r\n\r\n`)
    await until('the image is open', () => daemon.holds(file))
    const put = await daemon.controlRequest('PUT', `/revocations/${id}`)
    t.equal(put.status, 200)
    t.notOk(await daemon.holds(file), 'and closes the image')
    for (const one of [text, site.sign({ ...fields, nbf: 1 })]) {
      const reply = await request(daemon.remote, 'GET', `/images/${one}`)
      t.equal(reply.status, 403)
      t.equal(reply.text, 'there is no such ticket\n')
    }
    t.equal(reasons(daemon).at(-1), 'it is revoked')
    t.match((await daemon.controlRequest('GET', '/revocations')).json, [{ transfer_id: id }])
    t.equal((await daemon.controlRequest('DELETE', `/revocations/${id}`)).status, 204)
    t.equal((await request(daemon.remote, 'HEAD', `/images/${text}`)).status, 200)
  })

  t.test('deleting the ticket revokes, or the next request would bring it back', async (t) => {
    const { fields } = site.image()
    const url = `/images/${site.sign(fields)}`
    t.equal((await request(daemon.remote, 'GET', url)).status, 200)
    t.equal((await daemon.controlRequest('DELETE', '/tickets/')).status, 204)
    t.equal((await request(daemon.remote, 'GET', url)).status, 403)
  })

  t.test('is on the control service only', async (t) => {
    for (const target of [daemon.remote, daemon.local]) {
      t.equal((await request(target, 'PUT', '/revocations/x')).status, 404)
      t.equal((await request(target, 'GET', '/revocations')).status, 404)
    }
  })

  t.test('outlives a restart', async (t) => {
    const { fields } = site.image()
    const id = String(fields['transfer_id'])
    await daemon.controlRequest('PUT', `/revocations/${id}`)
    await daemon.stop()
    const again = await startDaemon(t, { config: site.config, from: daemon })
    t.equal((await request(again.remote, 'GET', `/images/${site.sign(fields)}`)).status, 403)
    const other = site.image()
    t.equal((await request(again.remote, 'GET', `/images/${site.sign(other.fields)}`)).status, 200)
  })
})

t.test('keys are replaced while the daemon runs', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t, { config: site.config })
  const next = ed25519()
  const { fields } = site.image()
  const [old, fresh] = [
    site.sign(fields),
    token(next, { alg: 'EdDSA', kid: 'next' }, claims(fields)),
  ]
  const status = async (text: string): Promise<number> =>
    (await request(daemon.remote, 'HEAD', `/images/${text}`)).status
  t.strictSame([await status(old), await status(fresh)], [200, 403])
  writeFileSync(join(site.keys, 'next.pem'), pemOf(next))
  await until('the new key is known', async () => (await status(fresh)) === 200, {
    timeoutMs: 15_000,
  })
  t.equal(await status(old), 200)
  unlinkSync(join(site.keys, 'engine.pem'))
  daemon.process.kill('SIGHUP')
  await until('the old key is gone', async () => (await status(old)) === 403, { timeoutMs: 15_000 })
  t.equal(await status(fresh), 200)
})

t.test('two daemons with the same keys need to know nothing of each other', async (t) => {
  const site = makeSite(t, { revocations_file: '' })
  const [one, two] = [
    await startDaemon(t, { config: site.config }),
    await startDaemon(t, { config: site.config }),
  ]
  const { bytes, fields } = site.image()
  const url = `/images/${String(fields['transfer_id'])}`
  const auth = bearer(site.sign(fields))
  for (const daemon of [one, two, one, two]) {
    t.ok((await request(daemon.remote, 'GET', url, auth)).body.equals(bytes))
  }
  t.match(one.logText(), /revocations_file: is empty, so a restart forgets revocations/)
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

t.test('where they are off there are none', async (t) => {
  const site = makeSite(t)
  const daemon = await startDaemon(t)
  const { fields } = site.image()
  const text = site.sign(fields)
  t.equal((await request(daemon.remote, 'GET', `/images/${text}`)).status, 403)
  const url = `/images/${String(fields['transfer_id'])}`
  t.equal((await request(daemon.remote, 'GET', url, bearer(text))).status, 403)
  t.equal((await daemon.controlRequest('PUT', '/revocations/x')).status, 404)
})

t.test('a daemon that cannot keep its word does not start', async (t) => {
  const site = makeSite(t)
  const bad = join(site.dir, 'bad.json')
  writeFileSync(bad, '{')
  const broken: [Sections[string], RegExp][] = [
    [{ keys: '/nonexistent/keys' }, /cannot read the keys of signed tickets/],
    [{ revocations_file: '/nonexistent/file' }, /cannot write the revocations of signed tickets/],
    [{ revocations_file: bad }, /cannot use the revocations in/],
  ]
  for (const [settings, reason] of broken) {
    const signed_tickets = { ...site.config['signed_tickets'], ...settings }
    const config = { ...site.config, signed_tickets }
    const daemon = await startDaemon(t, { config, skips: ['remote', 'local', 'control'] })
    t.equal(await daemon.exited(), 1)
    t.match(daemon.logText(), reason)
  }
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
