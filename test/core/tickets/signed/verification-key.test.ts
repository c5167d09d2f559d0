import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import {
  algorithmsOf,
  keyOfJwk,
  keyOfPem,
} from '../../../../core/tickets/signed/verification-key.js'
import { ed25519, jwkOf, p256, pemOf } from './tokens.js'

t.test('PEM of a public key of either kind', async (t) => {
  t.match(keyOfPem(pemOf(ed25519()), 'a'), { id: 'a', algorithms: ['EdDSA', 'Ed25519'] })
  t.match(keyOfPem(pemOf(p256()), 'b'), { id: 'b', algorithms: ['ES256'] })
})

t.test('a private key, a certificate, another kind of key and no key are refused', async (t) => {
  const { privateKey } = ed25519()
  const secret = String(privateKey.export({ type: 'pkcs8', format: 'pem' }))
  t.throws(() => keyOfPem(secret, 'a'), { message: /holds private key, not a public/ })
  t.throws(() => keyOfPem(`${secret}${pemOf(ed25519())}`, 'a'), { message: /private key/ })
  t.throws(() => keyOfPem('-----BEGIN CERTIFICATE-----\n', 'a'), { message: /certificate/ })
  t.throws(() => keyOfPem('', 'a'), { message: /no PEM/ })
  t.throws(() => keyOfPem('-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n', 'a'))
  const others = [
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
    generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
    generateKeyPairSync('ed448'),
    generateKeyPairSync('x25519'),
  ]
  for (const { publicKey } of others) {
    const pem = String(publicKey.export({ type: 'spki', format: 'pem' }))
    t.throws(() => keyOfPem(pem, 'a'), { message: /neither Ed25519 nor P-256/ })
    t.equal(algorithmsOf(publicKey), undefined)
  }
})

t.test('a JWK is known by its kid, else by its file', async (t) => {
  const jwk = jwkOf(ed25519())
  t.equal(keyOfJwk({ ...jwk, kid: 'inside' }, 'file').id, 'inside')
  t.equal(keyOfJwk(jwk, 'file').id, 'file')
  t.throws(() => keyOfJwk(jwk, undefined), { message: /no kid/ })
  for (const kid of ['', 7, null, {}]) {
    const name = kid === null ? undefined : 'file'
    t.throws(() => keyOfJwk({ ...jwk, kid }, name), { message: /no kid/ }, JSON.stringify(kid))
  }
})

t.test('what a JWK is for is obeyed', async (t) => {
  const jwk = { ...jwkOf(ed25519()), kid: 'a' }
  t.strictSame(keyOfJwk({ ...jwk, alg: 'Ed25519' }, undefined).algorithms, ['Ed25519'])
  t.strictSame(
    keyOfJwk({ ...jwk, alg: 'EdDSA', use: 'sig', key_ops: ['verify'] }, undefined).algorithms,
    ['EdDSA'],
  )
  t.throws(() => keyOfJwk({ ...jwk, alg: 'ES256' }, undefined), { message: /alg does not fit/ })
  t.throws(() => keyOfJwk({ ...jwk, alg: 'HS256' }, undefined), { message: /alg does not fit/ })
  t.throws(() => keyOfJwk({ ...jwk, use: 'enc' }, undefined), { message: /use is not/ })
  t.throws(() => keyOfJwk({ ...jwk, key_ops: ['encrypt'] }, undefined), { message: /key_ops/ })
  t.throws(() => keyOfJwk({ ...jwk, key_ops: 'verify' }, undefined), { message: /key_ops/ })
})

t.test('secrets, private keys and other things are no JWK of ours', async (t) => {
  const secret = { ...ed25519().privateKey.export({ format: 'jwk' }), kid: 'a' }
  t.throws(() => keyOfJwk(secret, undefined), { message: /private key/ })
  t.throws(() => keyOfJwk({ kty: 'oct', k: 'AAAA', kid: 'a' }, undefined), { message: /kty/ })
  t.throws(() => keyOfJwk({ kty: 'RSA', n: 'AQAB', e: 'AQAB', kid: 'a' }, undefined), {
    message: /kty/,
  })
  t.throws(() => keyOfJwk({ kty: 'OKP', crv: 'Ed25519', x: 'AA', kid: 'a' }, undefined))
  for (const json of [null, 7, 'x', [], {}])
    t.throws(() => keyOfJwk(json, 'a'), JSON.stringify(json))
})

t.test('a fingerprint tells keys apart, and is the same for the same key', async (t) => {
  const pair = p256()
  const { fingerprint } = keyOfPem(pemOf(pair), 'a')
  t.equal(keyOfJwk(jwkOf(pair), 'b').fingerprint, fingerprint)
  t.not(keyOfPem(pemOf(p256()), 'a').fingerprint, fingerprint)
})
