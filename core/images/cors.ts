/** For pages of other origins: the administration portal up- and downloads with XHR (images-api.md, 11). */
import type { Exchange } from '../http/exchange.js'

const MAX_AGE_SECONDS = '86400'
/** Those of `Allow`, which are ovirt-imageio's. HEAD needs no permission (Fetch, 2.2.1). */
const METHODS = 'OPTIONS,GET,PUT,PATCH'
/** What a script may read beyond the few fields it always may. */
const EXPOSED = 'content-range,content-disposition,content-length,accept-ranges,etag,content-digest'

/** Set before anything can fail: the portal shows error texts, too. */
export function allowCrossOrigin(exchange: Exchange): void {
  const isAsked = (name: string): boolean => (exchange.header(name) ?? '') !== ''
  const origin = isAsked('origin')
  const headers = isAsked('access-control-request-headers')
  const method = isAsked('access-control-request-method')
  if (origin) {
    exchange.setHeader('access-control-allow-origin', '*')
    exchange.setHeader('access-control-expose-headers', EXPOSED)
  }
  if (headers) {
    // The wildcard is not for this one (Fetch, 4.10).
    const allowed = asksForAuthorization(exchange) ? '*,authorization' : '*'
    exchange.setHeader('access-control-allow-headers', allowed)
  }
  if (method) {
    const allowed = exchange.method === 'OPTIONS' ? METHODS : '*'
    exchange.setHeader('access-control-allow-methods', allowed)
  }
  if (origin || headers || method) {
    exchange.setHeader('access-control-max-age', MAX_AGE_SECONDS)
  }
}

/** Says only what browsers ask before a request; the request itself is authorized. */
export function preflight(exchange: Exchange): void {
  exchange.send(200, '', { allow: 'OPTIONS,GET,HEAD' })
}

/**
 * A browser's question whether it may send a token. It comes without the token, so that it must be
 * answered to anybody.
 */
export function isPreflightForToken(exchange: Exchange): boolean {
  const isPreflight = exchange.header('access-control-request-method') !== undefined
  return exchange.method === 'OPTIONS' && isPreflight && asksForAuthorization(exchange)
}

function asksForAuthorization(exchange: Exchange): boolean {
  const names = exchange.header('access-control-request-headers') ?? ''
  return names.split(',').some((name) => name.trim().toLowerCase() === 'authorization')
}
