/**
 * Range (RFC 9110, 14.2) and Content-Range (14.4), as an image server needs them: one range, byte
 * units, and no mercy. Ignoring a bad Range, as the RFC allows, would hand a whole image to a client
 * that asked for a part.
 */
import { BadRequestError, RangeNotSatisfiableError } from './errors.js'

/** What a Range header asks for, before the size is known. `last` is inclusive. */
export type RangeRequest =
  | { readonly kind: 'from-to'; readonly first: number; readonly last: number }
  | { readonly kind: 'from'; readonly first: number }
  | { readonly kind: 'suffix'; readonly size: number }

export interface ByteRange {
  readonly offset: number
  readonly size: number
}

/** Throws RangeNotSatisfiableError (416) without a Content-Range when the syntax is wrong. */
export function parseRange(header: string): RangeRequest {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? []
  if (first === '' && last === '') throw new RangeNotSatisfiableError('Range is not bytes=a-b')
  if (first === '') return { kind: 'suffix', size: saturate(last) }
  if (last === '') return { kind: 'from', first: saturate(first) }
  if (BigInt(first) > BigInt(last))
    throw new RangeNotSatisfiableError('Range ends before it starts')
  return { kind: 'from-to', first: saturate(first), last: saturate(last) }
}

/**
 * Applies a Range to `available` bytes of a resource that calls itself `complete` bytes long (the
 * ticket's size, never less). A last byte past the end is an error, not cut (images-api.md, 5.3).
 */
export function resolveRange(
  request: RangeRequest,
  available: number,
  complete: number | bigint,
): ByteRange {
  if (request.kind === 'suffix') {
    if (request.size === 0 || available === 0) throw unsatisfiable(available)
    const size = Math.min(request.size, available)
    return { offset: available - size, size }
  }
  const { first } = request
  if (request.kind === 'from') {
    if (first >= available) throw unsatisfiable(available)
    return { offset: first, size: available - first }
  }
  if (request.last >= complete) throw unsatisfiable(complete)
  if (request.last >= available) throw unsatisfiable(available)
  return { offset: first, size: request.last - first + 1 }
}

/**
 * The offset a PUT writes at. Length and complete length may disagree with the body: the body's own
 * length wins (images-api.md, 6.2). Throws BadRequestError.
 */
export function parseContentRange(header: string): number {
  const [, first, last, complete] = /^bytes (\d+)-(\d+|\*)\/(\d+|\*)$/.exec(header) ?? []
  if (first === undefined || last === undefined || complete === undefined) {
    throw new BadRequestError('Content-Range is not "bytes first-last/complete"')
  }
  if (last !== '*' && BigInt(last) < BigInt(first)) {
    throw new BadRequestError('Content-Range ends before it starts')
  }
  if (last !== '*' && complete !== '*' && BigInt(last) >= BigInt(complete)) {
    throw new BadRequestError('Content-Range ends after its complete length')
  }
  return saturate(first)
}

function unsatisfiable(size: number | bigint): RangeNotSatisfiableError {
  return new RangeNotSatisfiableError(`Range is outside of the ${size} accessible bytes`, size)
}

/** No image is larger than a safe integer, so a larger number means "past the end" all the same. */
function saturate(digits: string): number {
  return Math.min(Number(digits), Number.MAX_SAFE_INTEGER)
}
