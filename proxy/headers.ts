/**
 * Which fields pass through. Both ways by list: what is not known here might mean something to only one
 * side, and a field that frames the message is made anew for each connection (RFC 9110, 7.6.1).
 *
 * What `Connection` names makes no difference. No other field than these passes, and these are for the
 * other end: a sender must not name them (RFC 9110, 7.6.1). To drop one that was checked here would
 * turn a write in the middle into one at the begin, or one under a condition into one without.
 */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { Exchange, Headers } from '../core/http/exchange.js'
import { viaOf } from './via.js'

/** Of any request. */
const REQUEST = ['accept', 'user-agent', 'if-match', 'if-none-match'] as const
const DOWNLOAD = [
  'range',
  'if-range',
  'want-content-digest',
  'want-repr-digest',
  'want-digest',
] as const
const UPLOAD = ['content-range', 'content-digest', 'repr-digest', 'digest'] as const

/** Answers have server, date and the fields of CORS from the proxy itself. */
const ANSWER = [
  'accept-ranges',
  'allow',
  'cache-control',
  'content-digest',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-range',
  'content-type',
  'digest',
  'etag',
  'expires',
  'last-modified',
  'repr-digest',
  'retry-after',
  'vary',
] as const

/** What may come behind a body. */
const TRAILERS = ['content-digest', 'repr-digest', 'digest'] as const

export function requestHeaders(
  exchange: Exchange,
  kind?: 'download' | 'upload',
): OutgoingHttpHeaders {
  const names = [...REQUEST, ...(kind === 'download' ? DOWNLOAD : kind === 'upload' ? UPLOAD : [])]
  const headers: OutgoingHttpHeaders = {}
  for (const name of names) {
    const value = exchange.header(name)
    if (value !== undefined) headers[name] = value
  }
  headers['via'] = viaOf(exchange)
  if (kind === 'download' && exchange.takesTrailers) {
    headers['te'] = 'trailers'
    headers['connection'] = 'keep-alive, te'
  }
  return headers
}

/** Each field of an answer that passes, and those it says will follow. */
export function answerHeaders({ headers }: Pick<Fields, 'headers'>, exchange: Exchange): Headers {
  const passed = pick(headers, ANSWER)
  const isChunked = headers['transfer-encoding'] !== undefined
  const announced = (headers['trailer'] ?? '').toLowerCase()
  const names = TRAILERS.filter((name) => announced.split(/[\s,]+/).includes(name))
  if (isChunked && exchange.takesTrailers && names.length > 0) passed['trailer'] = names.join(', ')
  return passed
}

export function answerTrailers({ trailers }: Pick<Fields, 'trailers'>): Record<string, string> {
  return pick(trailers, TRAILERS) as Record<string, string>
}

type Fields = Pick<IncomingMessage, 'headers' | 'trailers'>

function pick(fields: NodeJS.Dict<string | string[]>, names: readonly string[]): Headers {
  const picked: Headers = {}
  for (const name of names) {
    const value = fields[name]
    if (value !== undefined) picked[name] = String(value)
  }
  return picked
}
