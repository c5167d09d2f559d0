/**
 * What Node's parsers let pass and we do not: anything two parties could read differently, which is how
 * one request is smuggled inside another (RFC 9112, 11.2), and heads larger than agreed.
 */
import type { IncomingMessage } from 'node:http'
import { Http2ServerRequest } from 'node:http2'
import { FramingError } from './errors.js'

export type RawRequest = IncomingMessage | Http2ServerRequest

/** Bytes of a request line with its CRLF. */
export const MAX_REQUEST_LINE = 4096
/** Bytes of all header fields. */
export const MAX_HEAD = 16 * 1024
/** Bytes Node's parser takes before it gives up without saying what is too long. */
export const PARSER_MAX_HEAD = 4 * MAX_HEAD
export const MAX_FIELDS = 100

export function checkFraming(request: RawRequest, requireHost: boolean): FramingError | undefined {
  if (isHttp1(request) && request.httpVersionMajor !== 1) {
    const status = request.httpVersionMajor < 1 ? 400 : 505
    return new FramingError('HTTP/1.1 is the version served', status)
  }
  if (requestLineSize(request) > MAX_REQUEST_LINE) {
    return new FramingError(`the request line is longer than ${MAX_REQUEST_LINE} bytes`, 414)
  }
  if (request.rawHeaders.length / 2 > MAX_FIELDS) {
    return new FramingError(`there are more than ${MAX_FIELDS} header fields`, 431)
  }
  if (headSize(request) > MAX_HEAD) {
    return new FramingError(`the header fields are larger than ${MAX_HEAD} bytes`, 431)
  }
  return checkLength(request) ?? (isHttp1(request) ? checkHttp1(request, requireHost) : undefined)
}

export function isHttp1(request: RawRequest): request is IncomingMessage {
  return !(request instanceof Http2ServerRequest)
}

/** Whether the head announces a body. On HTTP/2 only the frames tell. */
export function announcesBody(request: RawRequest): boolean {
  if (!isHttp1(request)) return !request.stream.endAfterHeaders
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers
  return coding !== undefined || (length !== undefined && Number(length) > 0)
}

function requestLineSize({ method = '', url = '' }: RawRequest): number {
  return `${method} ${url} HTTP/1.1\r\n`.length
}

/** Names, values, and four bytes a field for colon, blank and CRLF. */
function headSize({ rawHeaders }: RawRequest): number {
  return rawHeaders.reduce((size, text) => size + text.length + 2, 0)
}

function checkLength(request: RawRequest): FramingError | undefined {
  const lengths = valuesOf(request, 'content-length')
  if (lengths.length > 1) return new FramingError('Content-Length is given more than once')
  const [length] = lengths
  if (length === undefined) return undefined
  if (!/^\d+$/.test(length)) return new FramingError('Content-Length is not a decimal number')
  if (Number.isSafeInteger(Number(length))) return undefined
  return new FramingError('Content-Length is larger than any image', 413)
}

/** uri-host [":" port] (RFC 9110, 7.2), or nothing. */
const HOST = /^(\[[\da-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(:\d*)?$/i

function checkHttp1(request: IncomingMessage, requireHost: boolean): FramingError | undefined {
  const hosts = valuesOf(request, 'host')
  if (hosts.length > 1) return new FramingError('Host is given more than once')
  if (requireHost && hosts.length === 0 && request.httpVersionMinor >= 1) {
    return new FramingError('Host is missing')
  }
  if (!HOST.test(hosts[0] ?? '')) return new FramingError('Host is not a host')
  const codings = valuesOf(request, 'transfer-encoding')
  if (codings.length === 0) return undefined
  if (request.httpVersionMinor < 1) return new FramingError('HTTP/1.0 has no Transfer-Encoding')
  if (request.headers['content-length'] !== undefined) {
    return new FramingError('Transfer-Encoding and Content-Length exclude each other')
  }
  if (codings.length === 1 && codings[0]?.toLowerCase() === 'chunked') return undefined
  return new FramingError('chunked is the only Transfer-Encoding served', 501)
}

function valuesOf({ rawHeaders }: RawRequest, name: string): string[] {
  const values: string[] = []
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    if (rawHeaders[index]?.toLowerCase() === name) values.push(rawHeaders[index + 1] ?? '')
  }
  return values
}
