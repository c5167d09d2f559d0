/** Conditional requests (RFC 9110, 13) on strong validators. No dates: an image has no Last-Modified. */
import { PreconditionFailedError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import type { Backend } from '../backends/backend.js'

export function quoted(etag: string): string {
  return `"${etag}"`
}

/** What a client demands of an image it changes. Throws PreconditionFailedError (412). */
export async function checkBeforeChange(exchange: Exchange, backend: Backend): Promise<void> {
  const names = ['if-match', 'if-none-match']
  if (names.every((name) => exchange.header(name) === undefined)) return
  const { etag } = await backend.facts()
  checkMatch(exchange, etag)
  const isThere = exchange.header('if-none-match')?.trim() === '*'
  if (isThere || isNotModified(exchange, etag)) throw new PreconditionFailedError()
}

/** If-Match. Throws PreconditionFailedError (412). */
export function checkMatch(exchange: Exchange, etag: string | undefined): void {
  const header = exchange.header('if-match')
  if (header === undefined || header.trim() === '*') return
  if (etag === undefined || !listed(header).includes(quoted(etag))) {
    throw new PreconditionFailedError()
  }
}

/** If-None-Match: 304 for GET and HEAD. */
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
