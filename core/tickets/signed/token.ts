/**
 * JSON Web Signature in compact form (RFC 7515), as narrow as it can be: three algorithms, three header
 * parameters. What a header could ask for besides, a key to be fetched or an extension to be
 * understood, is refused before anything is computed.
 */
import { compactVerify } from 'jose/jws/compact/verify'
import { parseExactJson } from '../../json.js'
import { TokenRefusedError } from './errors.js'
import { ALGORITHMS, type Algorithm, type VerificationKey } from './verification-key.js'

/** With method, suffixes and query it must fit in a request line of 4096 bytes. */
export const MAX_TOKEN = 3072

/** Explicit typing (RFC 8725, 3.11): what `typ` may be, if there is one. */
export const TOKEN_TYPE = 'imageio-ticket+jwt'
const TYPES = new Set(['jwt', TOKEN_TYPE])

const MAX_KEY_ID = 256
const PARAMETERS = new Set(['alg', 'kid', 'typ'])

export interface TokenHeader {
  readonly algorithm: Algorithm
  readonly keyId: string | undefined
}

/** Reads what selects the key. Throws TokenRefusedError. */
export function parseHeader(token: string): TokenHeader {
  if (token.length > MAX_TOKEN) throw new TokenRefusedError(`longer than ${MAX_TOKEN} characters`)
  const parts = token.split('.')
  const [head = ''] = parts
  // One text for one token: no padding, no line breaks, no unused bits that are set.
  if (parts.length !== 3 || !parts.every(isCanonical)) {
    throw new TokenRefusedError('not three parts of base64url')
  }
  const header = parse(Buffer.from(head, 'base64url'))
  const strange = [...header.keys()].find((name) => !PARAMETERS.has(name))
  if (strange !== undefined) {
    throw new TokenRefusedError(`the header has ${JSON.stringify(strange.slice(0, 40))}`)
  }
  const algorithm = ALGORITHMS.find((name) => name === header.get('alg'))
  if (algorithm === undefined) throw new TokenRefusedError('alg is not one of those accepted')
  const type = header.get('typ')
  if (type !== undefined && !isOurType(type)) throw new TokenRefusedError('typ is another kind')
  const keyId = header.get('kid')
  if (keyId === undefined) return { algorithm, keyId }
  if (typeof keyId !== 'string' || keyId === '' || keyId.length > MAX_KEY_ID) {
    throw new TokenRefusedError('kid is not a name')
  }
  return { algorithm, keyId }
}

/** The payload. Throws TokenRefusedError when the signature is not the key's. */
export async function verifyToken(
  token: string,
  algorithm: Algorithm,
  { key }: VerificationKey,
): Promise<Uint8Array> {
  try {
    const { payload } = await compactVerify(token, key, { algorithms: [algorithm] })
    return payload
  } catch (cause) {
    throw new TokenRefusedError('the signature is not the one of the key', { cause })
  }
}

function isCanonical(part: string): boolean {
  return part !== '' && Buffer.from(part, 'base64url').toString('base64url') === part
}

function isOurType(type: unknown): boolean {
  // The prefix may be left out (RFC 7515, 4.1.9).
  return typeof type === 'string' && TYPES.has(type.toLowerCase().replace(/^application\//, ''))
}

function parse(head: Buffer): Map<string, unknown> {
  let json: unknown
  try {
    json = parseExactJson(head)
  } catch (cause) {
    throw new TokenRefusedError('the header is not JSON', { cause })
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) {
    return new Map(Object.entries(json))
  }
  throw new TokenRefusedError('the header is not a JSON object')
}
