import t from 'tap'
import { MAX_TOKEN, parseHeader, verifyToken } from '../../../../core/tickets/signed/token.js'
import { keyOfPem } from '../../../../core/tickets/signed/verification-key.js'
import { claims, ed25519, encode, hmacToken, p256, pemOf, token } from './tokens.js'

const pair = ed25519()
const payload = claims()

const refused = (text: string): string => {
  try {
    parseHeader(text)
    return 'accepted'
  } catch (error) {
    return error instanceof Error && error.name === 'TokenRefusedError'
      ? error.message
      : String(error)
  }
}

t.test('a header says algorithm and key', async (t) => {
  for (const alg of ['EdDSA', 'Ed25519', 'ES256']) {
    const text = token(pair, { alg, kid: 'engine' }, payload)
    t.strictSame(parseHeader(text), { algorithm: alg, keyId: 'engine' })
  }
  t.strictSame(parseHeader(token(pair, { alg: 'EdDSA' }, payload)).keyId, undefined)
})

t.test('typ may be ours or the general one', async (t) => {
  for (const typ of ['JWT', 'jwt', 'imageio-ticket+jwt', 'application/imageio-ticket+JWT']) {
    t.equal(refused(token(pair, { alg: 'EdDSA', typ }, payload)), 'accepted', typ)
  }
  for (const typ of ['at+jwt', 'application/at+jwt', '', 7, null, ['JWT'], {}]) {
    t.match(refused(token(pair, { alg: 'EdDSA', typ }, payload)), /typ/, JSON.stringify(typ))
  }
})

t.test('no other algorithm is accepted', async (t) => {
  const names = ['none', 'None', 'NONE', 'HS256', 'HS512', 'RS256', 'PS256', 'ES384', 'ES256K']
  for (const alg of [...names, 'eddsa', 'Ed448', 'dir', '', null, 7, ['EdDSA'], undefined]) {
    t.match(refused(token(pair, { alg }, payload)), /^alg is not/, String(alg))
  }
})

t.test(
  'a header asks for nothing that would have to be fetched, trusted or understood',
  async (t) => {
    const parameters = {
      crit: ['exp'],
      jku: 'https://attacker.example/keys',
      jwk: { kty: 'OKP' },
      x5u: 'https://attacker.example/cert',
      x5c: ['MIIB'],
      x5t: 'AA',
      b64: false,
      zip: 'DEF',
      enc: 'A256GCM',
      cty: 'JWT',
      __proto__x: 1,
    }
    for (const [name, value] of Object.entries(parameters)) {
      const text = token(pair, { alg: 'EdDSA', [name]: value }, payload)
      t.equal(refused(text), `the header has "${name}"`)
    }
    const proto = `{"alg":"EdDSA","__proto__":{"alg":"none"}}`
    t.equal(refused(token(pair, proto, payload)), 'the header has "__proto__"')
  },
)

t.test('a kid is a name', async (t) => {
  for (const kid of ['', 7, null, {}, [], true, 'k'.repeat(257)]) {
    t.match(refused(token(pair, { alg: 'EdDSA', kid }, payload)), /^kid is not/, typeof kid)
  }
})

t.test('what is not three parts of canonical base64url is no token', async (t) => {
  const good = token(pair, { alg: 'EdDSA' }, payload)
  const [head = '', body = '', signature = ''] = good.split('.')
  const parts = /^not three parts/
  for (const text of [
    '',
    '.',
    '..',
    '...',
    `${head}.${body}`,
    `${head}.${body}.`,
    `.${body}.${signature}`,
    `${head}..${signature}`,
    `${good}.`,
    `${good}.${signature}`,
    `${good}=`,
    `${good}\n`,
    ` ${good}`,
    `${head}.${body}.${signature.slice(0, -1)}`,
    `${head}.${body}.+${signature.slice(1)}`,
    `${head}.${body}é.${signature}`,
  ]) {
    t.match(refused(text), parts, text.slice(-20))
  }
})

t.test('unused bits of the last character make no second text for one token', async (t) => {
  const good = token(pair, { alg: 'EdDSA' }, payload)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const last = alphabet.indexOf(good.slice(-1))
  t.equal(last % 16, 0, 'four bits are unused')
  for (let bits = 1; bits < 16; bits++) {
    t.match(refused(good.slice(0, -1) + (alphabet[last + bits] ?? '')), /^not three parts/)
  }
})

t.test('the size of a token is bounded', async (t) => {
  const filler = (size: number): string => 'f'.repeat(size)
  const base = token(pair, { alg: 'EdDSA' }, { x: '' }).length
  const room = Math.floor(((MAX_TOKEN - base) * 3) / 4)
  t.equal(refused(token(pair, { alg: 'EdDSA' }, { x: filler(room) })), 'accepted')
  t.match(refused(token(pair, { alg: 'EdDSA' }, { x: filler(room + 3) })), /^longer than/)
  t.match(refused('a'.repeat(1 << 20)), /^longer than/)
})

t.test('a header is a JSON object', async (t) => {
  for (const head of ['[]', 'null', '7', '"EdDSA"', 'true']) {
    t.equal(refused(token(pair, head, payload)), 'the header is not a JSON object', head)
  }
  for (const head of ['{', '{"alg":"EdDSA"', '{alg:"EdDSA"}', '['.repeat(500), 'x']) {
    t.equal(refused(token(pair, head, payload)), 'the header is not JSON', head.slice(0, 20))
  }
  const broken = `${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.e30.AA`
  t.equal(refused(broken), 'the header is not JSON')
})

t.test('each algorithm verifies what it signed, and gives the payload back', async (t) => {
  for (const made of [ed25519('EdDSA'), ed25519('Ed25519'), p256()]) {
    const text = token(made, { alg: made.alg }, payload)
    const { algorithm } = parseHeader(text)
    const bytes = await verifyToken(text, algorithm, keyOfPem(pemOf(made), 'k'))
    t.strictSame(JSON.parse(Buffer.from(bytes).toString()), payload, made.alg)
  }
})

t.test('another key, another header and another payload are not what was signed', async (t) => {
  const key = keyOfPem(pemOf(pair), 'k')
  const good = token(pair, { alg: 'EdDSA', kid: 'a' }, payload)
  const [head = '', body = '', signature = ''] = good.split('.')
  const no = { name: 'TokenRefusedError', message: /^the signature/ }
  const verify = (text: string, of = key) => verifyToken(text, 'EdDSA', of)
  await t.resolves(verify(good))
  await t.rejects(verify(good, keyOfPem(pemOf(ed25519()), 'k')), no)
  await t.rejects(verify(`${encode({ alg: 'EdDSA', kid: 'b' })}.${body}.${signature}`), no)
  await t.rejects(verify(`${head}.${encode({ ...payload, size: 2 })}.${signature}`), no)
  await t.rejects(verify(`${head}.${body}.${'A'.repeat(signature.length)}`), no)
  await t.rejects(verify(`${head}.${body}.AAAA`), no)
})

t.test(
  'a public key is no secret for an HMAC, nor is the absence of a signature one',
  async (t) => {
    const key = keyOfPem(pemOf(pair), 'k')
    for (const secret of [pemOf(pair), pair.publicKey.export({ type: 'spki', format: 'der' })]) {
      for (const alg of ['HS256', 'EdDSA'] as const) {
        const text = hmacToken(secret, { alg }, payload)
        await t.rejects(verifyToken(text, 'EdDSA', key), { message: /^the signature/ }, alg)
      }
    }
    const none = `${encode({ alg: 'none' })}.${encode(payload)}.`
    await t.rejects(verifyToken(none, 'EdDSA', key), { message: /^the signature/ })
  },
)
