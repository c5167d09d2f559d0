/** A public key as it is found in a file. */
import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'

/** Names of RFC 8037, RFC 9864 and RFC 7518. */
export const ALGORITHMS = ['EdDSA', 'Ed25519', 'ES256'] as const
export type Algorithm = (typeof ALGORITHMS)[number]

export interface VerificationKey {
  /** What `kid` selects it by. */
  readonly id: string
  readonly key: KeyObject
  /** Only these: a key is used for what it was made for (RFC 8725, 3.1). */
  readonly algorithms: readonly Algorithm[]
  /** Says whether two are the same. */
  readonly fingerprint: string
}

/** PEM, of a public key only: whoever puts the private one here has given it away. Throws an Error. */
export function keyOfPem(text: string, id: string): VerificationKey {
  const label = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(text)?.[1]
  if (label !== 'PUBLIC KEY') {
    throw new Error(`it holds ${label?.toLowerCase() ?? 'no PEM'}, not a public key`)
  }
  return describe(createPublicKey(text), id)
}

/** JWK (RFC 7517). Its `kid` comes before the name of the file. Throws an Error. */
export function keyOfJwk(json: unknown, name: string | undefined): VerificationKey {
  if (typeof json !== 'object' || json === null) throw new Error('a key is not a JSON object')
  const jwk = new Map<string, unknown>(Object.entries(json))
  const type = jwk.get('kty')
  if (type !== 'OKP' && type !== 'EC') throw new Error('kty is neither OKP nor EC')
  if (jwk.has('d')) throw new Error('it holds a private key')
  if (jwk.has('use') && jwk.get('use') !== 'sig') throw new Error('use is not "sig"')
  const operations = jwk.get('key_ops')
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) {
    throw new Error('key_ops does not have "verify"')
  }
  const id = jwk.get('kid') ?? name
  if (typeof id !== 'string' || id === '') throw new Error('a key has no kid')
  const found = describe(createPublicKey({ key: json as JsonWebKey, format: 'jwk' }), id)
  const algorithm = jwk.get('alg')
  if (algorithm === undefined) return found
  const algorithms = found.algorithms.filter((one) => one === algorithm)
  if (algorithms.length === 0) throw new Error('alg does not fit the key')
  return { ...found, algorithms }
}

function describe(key: KeyObject, id: string): VerificationKey {
  const algorithms = algorithmsOf(key)
  if (algorithms === undefined) throw new Error('it is neither Ed25519 nor P-256')
  const der = key.export({ type: 'spki', format: 'der' })
  const fingerprint = createHash('sha256').update(der).update(algorithms.join()).digest('hex')
  return { id, key, algorithms, fingerprint }
}

/** Of public and of private keys. */
export function algorithmsOf(key: KeyObject): readonly Algorithm[] | undefined {
  if (key.asymmetricKeyType === 'ed25519') return ['EdDSA', 'Ed25519']
  const curve = key.asymmetricKeyDetails?.namedCurve
  return key.asymmetricKeyType === 'ec' && curve === 'prime256v1' ? ['ES256'] : undefined
}
