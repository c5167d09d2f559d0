/** Reading the small parts of image requests. */
import { BadRequestError, ContentCodingError, RangeNotSatisfiableError } from '../http/errors.js'
import type { Exchange } from '../http/exchange.js'

export function requireId(exchange: Exchange): void {
  if (exchange.id === '') throw new BadRequestError('the path has no ticket id')
}

/** `close=y`: the connection ends with this answer, whatever it is. */
export function noteClose(exchange: Exchange): void {
  if (exchange.query.get('close') === 'y') exchange.closeAfter()
}

/** `flush=y|n`, default y. */
export function parseFlush(exchange: Exchange): boolean {
  const flush = exchange.query.get('flush') ?? 'y'
  if (flush !== 'y' && flush !== 'n') throw new BadRequestError('flush must be y or n')
  return flush === 'y'
}

/** Throws ContentCodingError. */
export function requirePlainBody(exchange: Exchange): void {
  const coding = exchange.header('content-encoding') ?? 'identity'
  if (coding.trim().toLowerCase() !== 'identity') throw new ContentCodingError()
}

export function beyondTicket(size: number | bigint): RangeNotSatisfiableError {
  return new RangeNotSatisfiableError(`the range ends after the ticket's ${size} bytes`, size)
}
