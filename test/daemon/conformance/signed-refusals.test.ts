/** Tokens that are refused: bad, too long or leading outside; and all of them where they are off. */
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { claims, ed25519, token } from '../../core/tickets/signed/tokens.js'
import { bearer, makeSite, reasons } from './signed-site.js'

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
      const { length } = reasons(daemon)
      const reply = await request(daemon.remote, 'GET', url, options)
      t.equal(reply.status, 403, name)
      t.equal(reply.text, unknown.text, name)
      t.equal(reply.headers['connection'], 'close', name)
      const seen = await until('the reason is logged', () => reasons(daemon)[length])
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
  const unknown = await request(daemon.remote, 'GET', '/images/unknown')
  for (const [url, reason] of [
    [`file://${secret}`, /^url: outside of/],
    [`file://${site.dir}/missing`, /^url: outside of/],
    [`file://${site.images}/../secret`, /^url: outside of/],
    [`file://${site.images}-2/disk`, /^url: outside of/],
    [`file://${site.images}/link`, /^the image lies outside/],
  ] as const) {
    const count = reasons(daemon).length
    const reply = await request(daemon.remote, 'GET', `/images/${site.sign({ url, size: 4096 })}`)
    t.equal(reply.status, 403, url)
    t.equal(reply.text, unknown.text, url)
    t.match(await until('the reason is logged', () => reasons(daemon)[count]), reason)
  }
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
