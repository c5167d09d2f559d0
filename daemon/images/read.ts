/** GET and HEAD /images/{id}: download (images-api.md, 5). */
import {
  parseRange,
  resolveRange,
  type ByteRange,
  type RangeRequest,
} from '../../core/http/range.js'
import type { Exchange, Headers } from '../../core/http/exchange.js'
import { cutOnAbort } from '../../core/images/operate.js'
import { readRange } from '../operations/read.js'
import { checkMatch, isNotModified, mayUseRange, quoted } from './conditions.js'
import { DigestedBody } from './content-digest.js'
import { contentDisposition } from './content-disposition.js'
import { operate, useImage, watchOf, type ImageServices, type OpenedImage } from './image.js'
import { noteClose, requireId } from '../../core/images/requests.js'

export async function getImage(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  noteClose(exchange)
  const header = exchange.method === 'HEAD' ? undefined : exchange.header('range')
  const wanted = header === undefined ? undefined : parseRange(header)
  await useImage(exchange, services, 'read', async (image) => {
    const { ticket, backend } = image
    const { size, etag } = await backend.facts()
    checkMatch(exchange, etag)
    const available = Math.min(ticket.limit, size)
    const isPart = wanted !== undefined && mayUseRange(exchange, etag)
    const range = isPart
      ? resolveRange(tolerate(exchange, wanted, available), available, ticket.definition.size)
      : { offset: 0, size: available }
    const validators = {
      'accept-ranges': 'bytes',
      ...(etag === undefined ? {} : { etag: quoted(etag) }),
    }
    if (isNotModified(exchange, etag)) {
      exchange.send(304, '', { 'content-length': available, ...validators })
      return
    }
    const headers: Headers = {
      'content-length': range.size,
      'content-type': 'application/octet-stream',
      'content-disposition': contentDisposition(ticket.definition.filename),
      ...validators,
      ...(isPart ? { 'content-range': contentRange(range, ticket.definition.size) } : {}),
    }
    if (exchange.method === 'HEAD') exchange.send(200, '', headers)
    else await download(exchange, services, image, range, isPart ? 206 : 200, headers)
  })
}

async function download(
  exchange: Exchange,
  services: ImageServices,
  image: OpenedImage,
  { offset, size }: ByteRange,
  status: number,
  headers: Headers,
): Promise<void> {
  const watch = watchOf(image.ticket, services)
  const pace = image.ticket.rate
  const sink = exchange.sink(status, headers, { watch, cut: () => exchange.cut(), pace })
  const digested = DigestedBody.of(exchange, headers, sink, size)
  const options = { op: 'read', offset, size, endsWithClient: true } as const
  try {
    await operate(exchange, image, services.buffers, options, (context) =>
      cutOnAbort(exchange, context.signal, () =>
        readRange(image.backend, offset, size, digested ?? sink, context),
      ),
    )
    sink.start()
    exchange.end(digested?.trailers())
  } finally {
    sink.release()
  }
}

/**
 * nbdkit's curl plugin (1.32, for one) asks for one byte more than it wants, also at the end of the
 * image, where that is an error for everybody else. It sends what libcurl sends by itself, and no
 * User-Agent.
 */
function tolerate(exchange: Exchange, wanted: RangeRequest, available: number): RangeRequest {
  const isBareLibcurl =
    exchange.header('accept') === '*/*' && exchange.header('user-agent') === undefined
  if (!isBareLibcurl || wanted.kind !== 'from-to' || wanted.last !== available) return wanted
  return { kind: 'from', first: wanted.first }
}

function contentRange({ offset, size }: ByteRange, complete: number | bigint): string {
  return `bytes ${offset}-${offset + size - 1}/${complete}`
}
