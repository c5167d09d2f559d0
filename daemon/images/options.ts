/** OPTIONS /images/{id}: what a client may do and how best (images-api.md, 4). */
import type { Exchange } from '../../core/http/exchange.js'
import { isPreflightForToken } from '../../core/images/cors.js'
import { requireId } from '../../core/images/requests.js'
import type { Ticket } from '../../core/tickets/ticket.js'
import type { Backend } from '../backends/backend.js'
import { useImage, type ImageServices } from './image.js'

const READ_METHODS = 'OPTIONS,GET'
const WRITE_METHODS = 'OPTIONS,GET,PUT,PATCH'
const READ_FEATURES = ['checksum', 'extents']
const WRITE_FEATURES = ['checksum', 'extents', 'flush', 'zero']

export async function imageOptions(exchange: Exchange, services: ImageServices): Promise<void> {
  requireId(exchange)
  if (isPreflightForToken(exchange)) {
    exchange.send(200, '', { allow: WRITE_METHODS })
    return
  }
  const { localSocket } = services
  const socket = localSocket === undefined ? {} : { unix_socket: localSocket }
  if (exchange.id === '*') {
    exchange.sendJson({ ...socket, features: WRITE_FEATURES }, { allow: WRITE_METHODS })
    return
  }
  await useImage(exchange, services, 'read', ({ ticket, backend }) => {
    ticket.touch()
    const mayWrite = ticket.mayWrite()
    const features = mayWrite ? WRITE_FEATURES : READ_FEATURES
    exchange.sendJson(
      { ...socket, features, ...imageFacts(ticket, backend) },
      { allow: mayWrite ? WRITE_METHODS : READ_METHODS },
    )
    return Promise.resolve()
  })
}

function imageFacts({ definition }: Ticket, backend: Backend): Record<string, unknown> {
  return {
    max_readers: backend.maxReaders,
    max_writers: backend.maxWriters,
    size: definition.size,
    block_size: backend.blockSize,
    sparse: definition.sparse,
    dirty: definition.dirty,
    transfer_id: definition.transferId,
  }
}
