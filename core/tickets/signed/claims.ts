/** What a token says: the JSON of its payload, checked. docs/signed-tickets.md has the table. */
import { createHash } from 'node:crypto'
import { parseExactJson } from '../../json.js'
import {
  parseDefinition,
  type DefinitionOptions,
  type TicketDefinition,
  type TicketOp,
} from '../definition.js'
import { TicketInvalidError } from '../errors.js'
import { TokenRefusedError } from './errors.js'

export interface ClaimsOptions extends DefinitionOptions {
  /** Names of this server. */
  readonly audience: readonly string[]
  /** Seconds from iat to exp. */
  readonly maxLifetime: number
  /** Seconds clocks may differ. */
  readonly clockTolerance: number
}

export interface Claims {
  readonly transferId: string
  /** Seconds since 1970. */
  readonly expires: number
  /** Seconds since 1970. */
  readonly issued: number
  /** Seconds since 1970, and not before it was issued. */
  readonly notBefore: number
  /** Without a timeout; the id is the same for the same rights. */
  readonly definition: TicketDefinition
}

/** Unreserved characters, so that it is one segment of a path in whatever way it is written. */
export const TRANSFER_ID = /^[A-Za-z0-9][\w.~-]{0,127}$/

const MAX_FILENAME = 255

/** Throws TokenRefusedError. `checkTimes` is separate, as it has to be done again. */
export function parseClaims(payload: Uint8Array, options: ClaimsOptions): Claims {
  const claims = new Map(Object.entries(parseObject(payload)))
  checkAudience(claims.get('aud'), options.audience)
  const expires = time(claims, 'exp')
  const issued = time(claims, 'iat')
  const notBefore = claims.has('nbf') ? time(claims, 'nbf') : issued
  if (expires - issued > options.maxLifetime) {
    throw new TokenRefusedError(`exp is more than ${options.maxLifetime} s after iat`)
  }
  const definition = define(claims, options)
  const { transferId } = definition
  return { transferId, expires, issued, notBefore: Math.max(issued, notBefore), definition }
}

/** Throws TokenRefusedError. `now`: seconds since 1970. */
export function checkTimes(
  { expires, issued, notBefore }: Pick<Claims, 'expires' | 'issued' | 'notBefore'>,
  now: number,
  tolerance: number,
): void {
  if (now >= expires + tolerance) throw new TokenRefusedError('exp is over')
  // Not only too early: revocations are kept for tokens that have been made (max_lifetime after iat).
  if (now < issued - tolerance) throw new TokenRefusedError('iat is to come')
  if (now < notBefore - tolerance) throw new TokenRefusedError('nbf is to come')
}

function parseObject(payload: Uint8Array): object {
  let json: unknown
  try {
    json = parseExactJson(payload)
  } catch (cause) {
    throw new TokenRefusedError('the claims are not JSON', { cause })
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json
  throw new TokenRefusedError('the claims are not a JSON object')
}

function checkAudience(audience: unknown, ours: readonly string[]): void {
  const named: unknown[] = Array.isArray(audience) ? audience : [audience]
  if (!named.every((name) => typeof name === 'string')) {
    throw new TokenRefusedError('aud is missing, or neither a string nor a list of them')
  }
  if (!named.some((name) => ours.includes(name))) {
    throw new TokenRefusedError('aud is another server')
  }
}

/** NumericDate (RFC 7519, 2) may have a fraction. */
function time(claims: ReadonlyMap<string, unknown>, key: string): number {
  const value = claims.get(key)
  if (typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value
  throw new TokenRefusedError(`${key} is missing, or no time in seconds since 1970`)
}

/** The same rules as for an installed ticket, and a few more: these are made by many hands. */
function define(
  claims: ReadonlyMap<string, unknown>,
  options: DefinitionOptions,
): TicketDefinition {
  const transferId = claims.get('transfer_id')
  if (typeof transferId !== 'string' || !TRANSFER_ID.test(transferId)) {
    throw new TokenRefusedError('transfer_id is missing, or not 1 to 128 letters, digits, - . _ ~')
  }
  const members = Object.fromEntries(
    CLAIMS.filter((key) => claims.has(key)).map((key) => [key, claims.get(key)]),
  )
  let definition: TicketDefinition
  try {
    definition = parseDefinition({ ...members, uuid: transferId, timeout: 0 }, options)
  } catch (cause) {
    if (!(cause instanceof TicketInvalidError)) throw cause
    throw new TokenRefusedError(cause.message, { cause })
  }
  if (definition.ops.length === 0) throw new TokenRefusedError('ops is empty')
  if ((definition.filename ?? '').length > MAX_FILENAME) {
    throw new TokenRefusedError(`filename has more than ${MAX_FILENAME} characters`)
  }
  const ops = OPS.filter((op) => definition.ops.includes(op))
  return { ...definition, ops, id: identify({ ...definition, ops }) }
}

const OPS: readonly TicketOp[] = ['read', 'write']

const CLAIMS = [
  'transfer_id',
  'url',
  'ops',
  'size',
  'sparse',
  'dirty',
  'filename',
  'inactivity_timeout',
  'max_bytes_per_second',
] as const

/** Equal for equal rights only; no secret, so nothing is given for it alone. */
function identify(definition: TicketDefinition): string {
  const { transferId, url, ops, size, sparse, dirty, filename, inactivityTimeout } = definition
  const { maxBytesPerSecond } = definition
  const rights = [transferId, url, ops, String(size), sparse, dirty, filename, inactivityTimeout]
  const all = maxBytesPerSecond > 0 ? [...rights, maxBytesPerSecond] : rights
  const digest = createHash('sha256').update(JSON.stringify(all)).digest('hex')
  return `${digest.slice(0, 32)}-signed`
}
