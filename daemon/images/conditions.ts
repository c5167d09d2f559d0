/** Conditional requests (RFC 9110, 13) on strong validators. No dates: an image has no Last-Modified. */
import { PreconditionFailedError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'

export function quoted(etag: string): string {
  return `"${etag}"`
}

/** If-Match. Throws PreconditionFailedError (412). */
export function checkMatch(exchange: Exchange, etag: string | undefined): void {
  const header = exchange.header('if-match')
  if (header === undefined || header.trim() === '*') return
  if (etag === undefined || !listed(header).includes(quoted(etag))) {
    throw new PreconditionFailedError()
  }
}

/** If-None-Match of GET and HEAD: 304. */
export function isNotModified(exchange: Exchange, etag: string | undefined): boolean {
  const header = exchange.header('if-none-match')
  if (header === undefined || etag === undefined) return false
  if (header.trim() === '*') return true
  return listed(header)
    .map((tag) => tag.replace(/^W\//, ''))
    .includes(quoted(etag))
}

/** If-Range: a part is of use only with the rest the client has already. */
export function mayUseRange(exchange: Exchange, etag: string | undefined): boolean {
  const header = exchange.header('if-range')
  return header === undefined || (etag !== undefined && header.trim() === quoted(etag))
}

function listed(header: string): string[] {
  return header.split(',').map((tag) => tag.trim())
}
