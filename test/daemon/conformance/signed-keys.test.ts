/** Keys and revocations: what daemons keep of signed tickets, also while it changes. */
import { unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startDaemon, type Sections } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { claims, ed25519, pemOf, token } from '../../core/tickets/signed/tokens.js'
import { bearer, makeSite, reasons } from './signed-site.js'

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
