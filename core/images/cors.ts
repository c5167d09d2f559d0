/** For pages of other origins: the administration portal up- and downloads with XHR (images-api.md, 11). */
import type { Exchange } from '../http/exchange.js'

const MAX_AGE_SECONDS = '86400'
const METHODS = 'OPTIONS,GET,HEAD,PUT,PATCH'
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
  if (headers) exchange.setHeader('access-control-allow-headers', '*')
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
