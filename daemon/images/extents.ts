/** GET /images/{id}/extents: where there is data (images-api.md, 8). */
import { BadRequestError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import type { Query } from '../../core/http/query.js'
import { resolveRange } from '../../core/http/range.js'
import type { Extent, ExtentContext } from '../backends/backend.js'
import { DirtyExtentsUnavailableError } from '../backends/errors.js'
import { useImage, watchOf, type ImageServices, type OpenedImage } from './image.js'
import { requireId } from '../../core/images/requests.js'

const JSON_TYPE = 'application/json'
const LINES_TYPE = 'application/x-ndjson'

/** Answers up to here have a content-length; longer ones are streamed. */
const PIECE_SIZE = 256 * 1024

export async function getExtents(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  await useImage(exchange, services, 'read', async (image) => {
    const { ticket, backend } = image
    const context = parseContext(exchange.query)
    if (context === 'dirty' && !ticket.definition.dirty) throw new DirtyExtentsUnavailableError()
    const available = Math.min(ticket.limit, await backend.size())
    const { start, end } = parseWindow(exchange.query, available)
    const isLines = wantsLines(exchange.header('accept'))
    const extents = available === 0 ? emptyImage(context) : backend.extents(start, end, context)
    await send(exchange, services, image, encode(alive(extents, image, exchange), isLines), {
      'content-type': isLines ? LINES_TYPE : JSON_TYPE,
    })
  })
}

/** Sends the pieces as they come; the first decides whether there is an answer at all. */
async function send(
  exchange: Exchange,
  services: ImageServices,
  { ticket }: OpenedImage,
  pieces: AsyncGenerator<string, undefined>,
  headers: Record<string, string>,
): Promise<void> {
  try {
    const first = await pieces.next()
    const second = await pieces.next()
    ticket.touch()
    if (exchange.method === 'HEAD' || second.done === true) {
      exchange.send(200, first.value ?? '', headers)
      return
    }
    const start = [first.value ?? '', second.value]
    const watch = watchOf(ticket, services)
    const sink = exchange.sink(200, headers, { watch, cut: () => exchange.cut() })
    try {
      for (const piece of start) await sink.write(Buffer.from(piece))
      for await (const piece of pieces) await sink.write(Buffer.from(piece))
      exchange.end()
    } finally {
      sink.release()
    }
  } finally {
    await pieces.return(undefined)
  }
}

/** Long lists are activity while they are sent, and end with the ticket or the client. */
async function* alive(
  extents: AsyncIterable<Extent>,
  { ticket }: OpenedImage,
  exchange: Exchange,
): AsyncGenerator<Extent> {
  const hold = ticket.begin('hold')
  const cut = (): void => exchange.cut()
  hold.signal.addEventListener('abort', cut)
  let count = 0
  try {
    for await (const extent of extents) {
      hold.signal.throwIfAborted()
      exchange.closed.throwIfAborted()
      if (++count % 1024 === 0) ticket.touch()
      yield extent
    }
  } finally {
    hold.signal.removeEventListener('abort', cut)
    hold.end()
  }
}

/** JSON text in pieces of about PIECE_SIZE: an array, or one object a line. */
async function* encode(
  extents: AsyncIterable<Extent>,
  isLines: boolean,
): AsyncGenerator<string, undefined> {
  let piece = isLines ? '' : '['
  let isFirst = true
  for await (const extent of extents) {
    if (!isLines && !isFirst) piece += ', '
    isFirst = false
    piece += JSON.stringify(extent)
    if (isLines) piece += '\n'
    if (piece.length < PIECE_SIZE) continue
    yield piece
    piece = ''
  }
  yield isLines ? piece : `${piece}]\n`
  return undefined
}

function parseContext(query: Query): ExtentContext {
  const context = query.get('context') ?? 'zero'
  if (context === 'zero' || context === 'dirty') return context
  throw new BadRequestError('context must be zero or dirty')
}

/** `start` and `length`, both optional; clipped to the image. */
function parseWindow(query: Query, available: number): { start: number; end: number } {
  const first = byteOffset(query, 'start') ?? 0
  const length = byteOffset(query, 'length')
  if (first === 0 && (available === 0 || length === undefined)) return { start: 0, end: available }
  const { offset, size } = resolveRange({ kind: 'from', first }, available, available)
  return { start: offset, end: offset + Math.min(size, length ?? size) }
}

function byteOffset(query: Query, key: string): number | undefined {
  const text = query.get(key)
  if (text === undefined) return undefined
  if (!/^\d+$/.test(text)) throw new BadRequestError(`${key} must be a decimal number of bytes`)
  return Math.min(Number(text), Number.MAX_SAFE_INTEGER)
}

function wantsLines(accept = ''): boolean {
  return accept
    .split(',')
    .some((type) => type.split(';', 1)[0]?.trim().toLowerCase() === LINES_TYPE)
}

/** The old server's answer for an empty file, which clients iterate over. */
async function* emptyImage(context: ExtentContext): AsyncGenerator<Extent> {
  const kind = context === 'zero' ? { zero: false, hole: false } : { dirty: false, zero: false }
  yield await Promise.resolve({ start: 0, length: 0, ...kind })
}
