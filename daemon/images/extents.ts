/** GET /images/{id}/extents: where there is data (images-api.md, 8). */
import { BadRequestError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import type { Query } from '../../core/http/query.js'
import { resolveRange } from '../../core/http/range.js'
import type { Extent, ExtentContext } from '../backends/backend.js'
import { DirtyExtentsUnavailableError } from '../backends/errors.js'
import { inPieces, type Piece, type PieceOptions } from './pieces.js'
import { useImage, watchOf, type ImageServices, type OpenedImage } from './image.js'
import { requireId } from '../../core/images/requests.js'

const JSON_TYPE = 'application/json'
const LINES_TYPE = 'application/x-ndjson'

/**
 * Answers up to here that are known in this time have a content-length; others are streamed. Texts of
 * 128 KiB and more would be kept until all of the heap is collected: half a GiB for a million extents.
 */
const PIECES: PieceOptions = { size: 64 * 1024, lingerMs: 25 }

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
    const texts = encode(alive(extents, image, exchange), isLines)
    await send(exchange, services, image, inPieces(texts, PIECES), {
      'content-type': isLines ? LINES_TYPE : JSON_TYPE,
    })
  })
}

/** Sends the pieces as they come; the first decides whether there is an answer at all. */
async function send(
  exchange: Exchange,
  services: ImageServices,
  { ticket }: OpenedImage,
  pieces: AsyncGenerator<Piece, undefined>,
  headers: Record<string, string>,
): Promise<void> {
  try {
    const { value: first } = await pieces.next()
    ticket.touch()
    if (first === undefined || first.isLast) {
      exchange.send(200, first?.text, headers)
      return
    }
    if (exchange.method === 'HEAD') {
      exchange.sendHead(200, headers)
      return
    }
    const watch = watchOf(ticket, services)
    const sink = exchange.sink(200, headers, { watch, cut: () => exchange.cut() })
    try {
      // One for all pieces: hundreds of megabytes would wait for the collector else.
      let buffer = Buffer.alloc(0)
      const write = async (text: string): Promise<void> => {
        if (text.length > buffer.length) buffer = Buffer.allocUnsafeSlow(2 * text.length)
        await sink.write(buffer.subarray(0, buffer.write(text, 'latin1')))
      }
      await write(first.text)
      for await (const { text } of pieces) await write(text)
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
  pages: AsyncIterable<readonly Extent[]>,
  { ticket }: OpenedImage,
  exchange: Exchange,
): AsyncGenerator<readonly Extent[]> {
  const hold = ticket.begin('hold')
  // Before the header there is an answer to give.
  const cut = (): void => {
    if (exchange.headersSent) exchange.cut()
  }
  hold.signal.addEventListener('abort', cut)
  try {
    for await (const page of pages) {
      hold.signal.throwIfAborted()
      exchange.closed.throwIfAborted()
      ticket.touch()
      yield page
    }
  } finally {
    hold.signal.removeEventListener('abort', cut)
    hold.end()
  }
}

/** JSON text, page by page: an array, or one object a line. */
async function* encode(
  pages: AsyncIterable<readonly Extent[]>,
  isLines: boolean,
): AsyncGenerator<string> {
  const [between, end] = isLines ? ['\n', '\n'] : [', ', ']\n']
  let before = isLines ? '' : '['
  for await (const page of pages) {
    if (page.length === 0) continue
    yield before + page.map((extent) => JSON.stringify(extent)).join(between)
    before = between
  }
  yield end
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
async function* emptyImage(context: ExtentContext): AsyncGenerator<readonly Extent[]> {
  const kind = context === 'zero' ? { zero: false, hole: false } : { dirty: false, zero: false }
  yield await Promise.resolve([{ start: 0, length: 0, ...kind }])
}
