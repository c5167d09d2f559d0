/** PATCH /images/{id}: zero and flush (images-api.md, 7). */
import type { Exchange } from '../../core/http/exchange.js'
import { parsePatch } from '../../core/images/patch-request.js'
import { zeroRange } from '../operations/zero.js'
import { checkBeforeChange } from './conditions.js'
import { changeImage, flush, operate, type ImageServices } from './image.js'
import { beyondTicket, requireId } from '../../core/images/requests.js'
import { checkGrowth } from './write.js'

export async function patchImage(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  // The body is checked before the ticket, but nobody is invited to send one without a ticket.
  if (exchange.expectsContinue) await services.gate.authorize(exchange, 'write')
  const request = parsePatch(await exchange.readJson())
  const { offset, size } = request.op === 'zero' ? request : { offset: 0, size: 0 }
  await changeImage(exchange, services, { offset, size }, async (image) => {
    const { ticket, backend } = image
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
  })
}
