/** PATCH /images/{id}: zero and flush (images-api.md, 7). */
import { BadRequestError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import { zeroRange } from '../operations/zero.js'
import { checkBeforeChange } from './conditions.js'
import { flush, operate, useImage, type ImageServices } from './image.js'
import { requireId } from './requests.js'
import { beyondTicket, checkGrowth } from './write.js'

type PatchRequest =
  | { readonly op: 'flush' }
  | { readonly op: 'zero'; readonly offset: number; readonly size: number; readonly flush: boolean }

export async function patchImage(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  // The body is checked before the ticket, but nobody is invited to send one without a ticket.
  if (exchange.expectsContinue) await services.gate.authorize(exchange, 'write')
  const request = parsePatch(await exchange.readJson())
  await useImage(exchange, services, 'write', async (image) => {
    const { ticket, backend } = image
    const { offset, size } = request.op === 'zero' ? request : { offset: 0, size: 0 }
    if (offset + size > ticket.limit) throw beyondTicket(ticket.definition.size)
    await checkBeforeChange(exchange, backend)
    await checkGrowth(backend, offset + size)
    const options = { op: request.op, offset, size, endsWithClient: true }
    await operate(exchange, image, services.buffers, options, async (context) => {
      if (request.op === 'zero') {
        const mayPunchHole = ticket.definition.sparse
        await zeroRange(backend, offset, size, { mayPunchHole }, context)
      }
      if (request.op === 'flush' || request.flush) await flush(image)
    })
    exchange.send(200)
  })
}

/** Throws BadRequestError. Unknown members are ignored. */
function parsePatch(json: unknown): PatchRequest {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new BadRequestError('the body is not a JSON object')
  }
  const members = new Map<string, unknown>(Object.entries(json))
  const op = members.get('op')
  if (op === 'flush') return { op }
  if (op !== 'zero') throw new BadRequestError('op must be "zero" or "flush"')
  const mustFlush = members.has('flush') ? members.get('flush') : false
  if (typeof mustFlush !== 'boolean') throw new BadRequestError('flush must be true or false')
  return {
    op,
    size: byteCount('size', members.get('size')),
    offset: members.has('offset') ? byteCount('offset', members.get('offset')) : 0,
    flush: mustFlush,
  }
}

/** Saturates above the largest image, which no ticket reaches. */
function byteCount(name: string, value: unknown): number {
  if (typeof value === 'bigint' && value > 0n) return Number.MAX_SAFE_INTEGER
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value
  throw new BadRequestError(`${name} must be an integer of at least 0`)
}
