/** GET and HEAD /images/{id}: download (images-api.md, 5). */
import { resolveRange, parseRange, type ByteRange } from '../../core/http/range.js'
import type { Exchange, Headers } from '../../core/http/exchange.js'
import { readRange } from '../operations/read.js'
import { checkMatch, isNotModified, mayUseRange, quoted } from './conditions.js'
import { contentDisposition } from './content-disposition.js'
import { operate, useImage, watchOf, type ImageServices, type OpenedImage } from './image.js'
import { noteClose, requireId } from './requests.js'

export async function getImage(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  noteClose(exchange)
  const header = exchange.method === 'HEAD' ? undefined : exchange.header('range')
  const wanted = header === undefined ? undefined : parseRange(header)
  await useImage(exchange, services, 'read', async (image) => {
    const { ticket, backend } = image
    const etag = await backend.etag()
    checkMatch(exchange, etag)
    const available = Math.min(ticket.limit, await backend.size())
    const isPart = wanted !== undefined && mayUseRange(exchange, etag)
    const range = isPart
      ? resolveRange(wanted, available, ticket.definition.size)
      : { offset: 0, size: available }
    const validators = {
      'accept-ranges': 'bytes',
      ...(etag === undefined ? {} : { etag: quoted(etag) }),
    }
    if (isNotModified(exchange, etag)) {
      exchange.send(304, '', validators)
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
  const sink = exchange.sink(status, headers, { watch, cut: () => exchange.cut() })
  const options = { op: 'read', offset, size, endsWithClient: true } as const
  try {
    await operate(exchange, image, services.buffers, options, async (context) => {
      // A write that waits for the client ends only with the connection.
      const cut = (): void => {
        if (exchange.headersSent) exchange.cut()
      }
      context.signal.addEventListener('abort', cut)
      try {
        await readRange(image.backend, offset, size, sink, context)
      } finally {
        context.signal.removeEventListener('abort', cut)
      }
    })
    sink.start()
    exchange.end()
  } finally {
    sink.release()
  }
}

function contentRange({ offset, size }: ByteRange, complete: number | bigint): string {
  return `bytes ${offset}-${offset + size - 1}/${complete}`
}
