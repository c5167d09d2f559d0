/** PUT /images/{id}: upload (images-api.md, 6). */
import {
  BadRequestError,
  BodyTimeoutError,
  ClientGoneError,
  IncompleteBodyError,
} from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import { parseContentRange } from '../../core/http/range.js'
import { RangeLimitError } from '../operations/operation.js'
import { writeRange } from '../operations/write.js'
import type { Backend } from '../backends/backend.js'
import { BeyondEndError } from '../backends/errors.js'
import { checkBeforeChange } from './conditions.js'
import { BodyCheck } from './content-digest.js'
import {
  changeImage,
  emptyingBefore,
  flush,
  operate,
  watchOf,
  type ImageServices,
} from './image.js'
import {
  beyondTicket,
  noteClose,
  parseFlush,
  requireId,
  requirePlainBody,
} from '../../core/images/requests.js'

/** What ends a body before its end. */
const CUTS = [ClientGoneError, IncompleteBodyError, BodyTimeoutError]

export async function putImage(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  noteClose(exchange)
  requirePlainBody(exchange)
  const size = exchange.contentLength
  if (size === undefined && !exchange.isChunked) {
    throw new BadRequestError('neither Content-Length nor Transfer-Encoding: chunked')
  }
  const range = exchange.header('content-range')
  const offset = range === undefined ? 0 : parseContentRange(range)
  const mustFlush = parseFlush(exchange)
  const check = new BodyCheck(exchange)
  await changeImage(exchange, services, { offset, size }, async (image) => {
    const { ticket, backend } = image
    if (offset + (size ?? 0) > ticket.limit) throw beyondTicket(ticket.definition.size)
    await checkBeforeChange(exchange, backend)
    await checkGrowth(backend, offset + (size ?? 0))
    // A client that has gone does not end the work: what it sent is written (images-api.md, 6.5).
    const options = { op: 'write', offset, size, endsWithClient: false } as const
    await operate(exchange, image, services.buffers, options, async (context) => {
      const body = exchange.body(watchOf(ticket, services), context.signal, ticket.rate)
      const source = size === undefined ? emptyingBefore(image, body) : body
      let reached = offset
      const onProgress = (from: number, length: number): void => {
        reached = from + length
        context.onProgress(from, length)
      }
      try {
        const limit = ticket.limit - offset
        await writeRange(backend, offset, size, check.of(source), {
          ...context,
          onProgress,
          limit,
          onEnd: () => check.verify(body),
          ...(mustFlush ? { flush: () => flush(image) } : {}),
        })
      } catch (error) {
        // A body that is cut off there may have had more, as one that a proxy cuts since it has.
        const isFull = size === undefined && reached === ticket.limit
        const isCut = isFull && CUTS.some((kind) => error instanceof kind)
        const isBeyond = isCut || error instanceof RangeLimitError
        throw isBeyond ? beyondTicket(ticket.definition.size) : error
      } finally {
        body.release()
      }
    })
  })
}

/** Storage that cannot grow is not written in part first. */
export async function checkGrowth(backend: Backend, end: number): Promise<void> {
  if (backend.canGrow) return
  const size = await backend.size()
  if (end > size) throw new BeyondEndError(end, size)
}
