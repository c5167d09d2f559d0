import t from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import { parseClaims } from '../../../../core/tickets/signed/claims.js'
import { signToken, type TokenClaims } from '../../../../core/tickets/signed/sign.js'
import { parseHeader, verifyToken } from '../../../../core/tickets/signed/token.js'
import { keyOfPem } from '../../../../core/tickets/signed/verification-key.js'
import { ed25519, p256, pemOf } from './tokens.js'

const good: TokenClaims = {
  ...{ aud: 'host', iat: 1000, exp: 2000, transfer_id: 'x', url: 'nbd://host/export' },
  ...{ ops: ['read'], size: 2n ** 64n },
}

t.test('what is signed is what a server reads, all digits of the size too', async (t) => {
  for (const pair of [ed25519(), p256()]) {
    const text = await signToken(good, { key: pair.privateKey, id: 'engine' })
    const { algorithm, keyId } = parseHeader(text)
    t.equal(keyId, 'engine')
    const payload = await verifyToken(text, algorithm, keyOfPem(pemOf(pair), 'engine'))
    const options = {
      ...{ audience: ['host'], maxLifetime: 1000, clockTolerance: 0, inactivityTimeout: 60 },
      normalizeUrl: (url: string) => url,
    }
    t.match(parseClaims(payload, options).definition, { size: 2n ** 64n, url: good.url })
  }
})

t.test('what no server would take is not signed', async (t) => {
  const { privateKey } = ed25519()
  const sign = (fields: object, key = privateKey) =>
    signToken({ ...good, ...fields }, { key, id: 'k' })
  const no = { name: 'TokenRefusedError' }
  await t.rejects(sign({ transfer_id: 'a/b' }), no)
  await t.rejects(sign({ ops: ['execute'] }), no)
  await t.rejects(sign({ size: -1 }), no)
  await t.rejects(sign({ filename: 'x'.repeat(300) }), no)
  await t.rejects(sign({ url: `file:///${'x'.repeat(3000)}` }), { message: /longer than 3072/ })
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  await t.rejects(sign({}, rsa), { message: /neither Ed25519 nor P-256/ })
})
