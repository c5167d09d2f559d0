/** The JSON of PATCH /images/{id} (images-api.md, 7). */
import { BadRequestError } from '../http/errors.js'

export type PatchRequest =
  | { readonly op: 'flush' }
  | { readonly op: 'zero'; readonly offset: number; readonly size: number; readonly flush: boolean }

/** Throws BadRequestError. Unknown members are ignored. */
export function parsePatch(json: unknown): PatchRequest {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new BadRequestError('the body is not a JSON object')
  }
  const members = new Map<string, unknown>(Object.entries(json))
  const op = members.get('op')
  if (op === 'flush') return { op }
  if (op !== 'zero') throw new BadRequestError('op must be "zero" or "flush"')
  const mustFlush = members.has('flush') ? members.get('flush') : false
  if (typeof mustFlush !== 'boolean') throw new BadRequestError('flush must be true or false')
  return {
    op,
    size: byteCount('size', members.get('size')),
    offset: members.has('offset') ? byteCount('offset', members.get('offset')) : 0,
    flush: mustFlush,
  }
}

/** Saturates above the largest image, which no ticket reaches. */
function byteCount(name: string, value: unknown): number {
  if (typeof value === 'bigint' && value > 0n) return Number.MAX_SAFE_INTEGER
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value
  throw new BadRequestError(`${name} must be an integer of at least 0`)
}
