/** The other side: tokens as this project's own tools make them. */
import type { KeyObject } from 'node:crypto'
import { CompactSign } from 'jose/jws/compact/sign'
import { toJson } from '../../json.js'
import { parseClaims } from './claims.js'
import { TokenRefusedError } from './errors.js'
import { MAX_TOKEN, TOKEN_TYPE } from './token.js'
import { algorithmsOf } from './verification-key.js'

/** Names as on the wire. */
export interface TokenClaims {
  readonly aud: string | readonly string[]
  readonly iat: number
  readonly nbf?: number
  readonly exp: number
  readonly transfer_id: string
  readonly url: string
  readonly ops: readonly string[]
  readonly size: number | bigint
  readonly sparse?: boolean
  readonly dirty?: boolean
  readonly filename?: string
  readonly inactivity_timeout?: number
  readonly max_bytes_per_second?: number | bigint
}

export interface SigningKey {
  readonly key: KeyObject
  /** What servers know the public key by. */
  readonly id: string
}

/** Rejects with TokenRefusedError what no server would take; URLs are for each server to judge. */
export async function signToken(claims: TokenClaims, { key, id }: SigningKey): Promise<string> {
  const algorithm = algorithmsOf(key)?.[0]
  if (algorithm === undefined) throw new TokenRefusedError('the key is neither Ed25519 nor P-256')
  const payload = Buffer.from(toJson(claims))
  parseClaims(payload, {
    audience: [claims.aud].flat(),
    maxLifetime: Infinity,
    clockTolerance: 0,
    inactivityTimeout: 1,
    normalizeUrl: (url) => url,
  })
  const header = { alg: algorithm, kid: id, typ: TOKEN_TYPE }
  const token = await new CompactSign(payload).setProtectedHeader(header).sign(key)
  if (token.length <= MAX_TOKEN) return token
  throw new TokenRefusedError(`the token would be longer than ${MAX_TOKEN} characters`)
}
