/** What all requests on an image have in common: the ticket, the open image, the operation. */
import type { BufferPool } from '../../core/buffer-pool.js'
import type { Exchange } from '../../core/http/exchange.js'
import type { WatchOptions } from '../../core/http/watch.js'
import { operate as operateUnder, type OperateOptions } from '../../core/images/operate.js'
import { watchOf as watchUnder, withTicket } from '../../core/images/ticket.js'
import type { TicketOp } from '../../core/tickets/definition.js'
import type { TicketGate } from '../../core/tickets/gate.js'
import type { Ticket } from '../../core/tickets/ticket.js'
import type { Backend } from '../backends/backend.js'
import type { ChecksumSlots } from '../operations/checksum-slots.js'
import type { ByteSource, OperationContext } from '../operations/operation.js'
import { changing, type ChangedRange } from './changing.js'
import { ImageContext, type OpenImage } from './context.js'

/** What the routes need of the daemon. */
export interface ImageServices {
  readonly gate: TicketGate
  readonly open: OpenImage
  readonly buffers: BufferPool
  readonly checksums: ChecksumSlots
  /** Bytes per second a body must move. */
  readonly minBodyRate: number
  /** Told to clients on this host, absent when there is no local service. */
  readonly localSocket: string | undefined
}

/** An image opened for a request. */
export interface OpenedImage {
  readonly ticket: Ticket
  readonly backend: Backend
}

/** Authorizes and opens, and keeps the image open until `work` has settled. */
export function useImage(
  exchange: Exchange,
  { gate, open }: ImageServices,
  op: TicketOp,
  work: (image: OpenedImage) => Promise<void>,
): Promise<void> {
  return withTicket(exchange, gate, op, (ticket) => withImage(exchange, ticket, open, op, work))
}

/** The same for a change of the range, of which nothing is forgotten that was not written. Answers 200. */
export function changeImage(
  exchange: Exchange,
  { gate, open }: ImageServices,
  range: ChangedRange,
  work: (image: OpenedImage) => Promise<void>,
): Promise<void> {
  return withTicket(exchange, gate, 'write', async (ticket) => {
    await changing(ticket, range, () => withImage(exchange, ticket, open, 'write', work))
    exchange.send(200)
  })
}

function withImage(
  exchange: Exchange,
  ticket: Ticket,
  open: OpenImage,
  op: TicketOp,
  work: (image: OpenedImage) => Promise<void>,
): Promise<void> {
  return ImageContext.of(exchange.connection, ticket, open).use((backend) => {
    // Opening takes time, in which another connection may have noticed that writes are lost.
    ticket.throwIfLost(op)
    return work({ ticket, backend })
  })
}

/**
 * Runs `work` as an operation of the ticket: counted, canceled with it, logged. What changes the image or
 * flushes does not succeed when writes of the ticket were lost meanwhile.
 */
export function operate(
  exchange: Exchange,
  { ticket, backend }: OpenedImage,
  buffers: BufferPool,
  options: OperateOptions,
  work: (context: OperationContext) => Promise<void>,
): Promise<void> {
  return operateUnder(exchange, ticket, options, async (handle) => {
    const changes = options.op === 'write' || options.op === 'zero'
    // Of a body whose size nobody knows the first byte decides, see emptyingBefore.
    if (changes && (options.size ?? 0) > 0) await emptyOnce(ticket, backend)
    await work({ ...handle, buffers })
    ticket.throwIfLost(options.op === 'read' || options.op === 'checksum' ? 'read' : 'write')
  })
}

const emptied = new WeakMap<Ticket, Promise<void>>()

/** Before the first change under the ticket; each waits for it. */
async function emptyOnce(ticket: Ticket, backend: Backend): Promise<void> {
  if (!ticket.unfinished.mustEmpty) return
  const known = emptied.get(ticket)
  const empty = async (): Promise<void> => {
    await backend.empty?.()
    ticket.unfinished.noteEmptied()
  }
  const emptying = known ?? empty()
  if (known === undefined) emptied.set(ticket, emptying)
  try {
    await emptying
  } catch (error) {
    if (emptied.get(ticket) === emptying) emptied.delete(ticket)
    throw error
  }
}

/** The same with the first byte that comes. */
export function emptyingBefore({ ticket, backend }: OpenedImage, source: ByteSource): ByteSource {
  if (!ticket.unfinished.mustEmpty) return source
  const read = async (target: Buffer): Promise<number> => {
    const size = await source.read(target)
    if (size > 0) await emptyOnce(ticket, backend)
    return size
  }
  return { read }
}

/** Flushes; a failure is remembered, as no later success could be believed. */
export async function flush({ ticket, backend }: OpenedImage): Promise<void> {
  try {
    await backend.flush()
  } catch (error) {
    ticket.loseWrites(error)
    throw error
  }
}

/** How long a client of this ticket may be silent. */
export function watchOf(ticket: Ticket, { minBodyRate }: ImageServices): WatchOptions {
  return watchUnder(ticket, minBodyRate)
}
