/** The one place where an error becomes a response. */
import { ServiceError } from '../errors.js'
import { ClientGoneError, type ErrorHeaders, type ErrorWithHeaders } from './errors.js'
import type { Exchange } from './exchange.js'
import { VERSION } from './version.js'

const TEXT = 'text/plain; charset=UTF-8'

/** What a client is told about the unexpected: nothing that could help an attacker. */
const INTERNAL = 'internal error, the log of the server knows more'

export function replyError(exchange: Exchange, error: unknown): void {
  const { logger } = exchange
  const isKnown = error instanceof ServiceError
  const status = isKnown ? error.statusCode : 500
  if (error instanceof ClientGoneError) {
    logger.info('the client left before the end')
    exchange.cut()
    return
  }
  const facts = { status, code: isKnown ? error.code : 'ERR_INTERNAL' }
  if (status >= 500) logger.error({ ...facts, err: error }, 'request failed')
  else logger.warn({ ...facts, reason: isKnown ? error.message : undefined }, 'request refused')
  if (exchange.headersSent || exchange.closed.aborted) {
    exchange.cut()
    return
  }
  const text = isKnown ? oneLine(error.message) : INTERNAL
  exchange.send(status, `${text}\n`, {
    ...(isKnown ? headersOf(error) : {}),
    'content-type': TEXT,
  })
}

/** For a request that never became an exchange. */
export function errorPage(
  status: number,
  reason: string,
  text: string,
  headers: readonly string[] = [],
): string {
  const body = `${oneLine(text)}\n`
  return [
    `HTTP/1.1 ${status} ${reason}`,
    `server: imageio/${VERSION}`,
    `date: ${new Date().toUTCString()}`,
    'connection: close',
    ...headers,
    `content-type: ${TEXT}`,
    `content-length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n')
}

/** What some errors say besides status and text. */
function headersOf(error: ServiceError): ErrorHeaders {
  if ('headers' in error) return (error as ServiceError & ErrorWithHeaders).headers
  if ('retryAfter' in error) return { 'retry-after': String(error.retryAfter) }
  return {}
}

function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ').trim()
}
