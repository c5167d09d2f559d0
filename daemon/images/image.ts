/** What all requests on an image have in common: the ticket, the open image, the operation. */
import { ClientGoneError } from '../../core/http/errors.js'
import type { Exchange } from '../../core/http/exchange.js'
import type { WatchOptions } from '../../core/http/watch.js'
import type { TicketOp } from '../../core/tickets/definition.js'
import { shortId } from '../../core/log.js'
import type { TicketGate } from '../../core/tickets/gate.js'
import { logFields } from '../../core/tickets/store.js'
import { Ticket } from '../../core/tickets/ticket.js'
import type { Backend } from '../backends/backend.js'
import type { BufferPool } from '../operations/buffer-pool.js'
import type { ChecksumSlots } from '../operations/checksum-slots.js'
import type { OperationContext } from '../operations/operation.js'
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
export async function useImage(
  exchange: Exchange,
  services: ImageServices,
  op: TicketOp,
  work: (image: OpenedImage) => Promise<void>,
): Promise<void> {
  exchange.bind({ ticket: shortId(exchange.id) })
  const found = services.gate.authorize(exchange, op)
  // Not always awaited: a ticket that is known costs no turn.
  const ticket = found instanceof Ticket ? found : await found
  exchange.bind(logFields(ticket.definition))
  const hold = ticket.begin('hold')
  try {
    const context = ImageContext.of(exchange.connection, ticket, services.open)
    await context.use((backend) => work({ ticket, backend }))
  } finally {
    hold.end()
  }
}

export interface OperateOptions {
  /** For the log. */
  readonly op: 'read' | 'write' | 'zero' | 'flush' | 'checksum'
  readonly offset: number
  /** Undefined when only the end of the body will tell. */
  readonly size: number | undefined
  /** Whether a client that has gone ends the work, besides cancellation. */
  readonly endsWithClient: boolean
}

/** Runs `work` as an operation of the ticket: counted, canceled with it, logged. */
export async function operate(
  exchange: Exchange,
  { ticket }: OpenedImage,
  buffers: BufferPool,
  { op, offset, size, endsWithClient }: OperateOptions,
  work: (context: OperationContext) => Promise<void>,
): Promise<void> {
  const use = ticket.begin(op === 'checksum' ? 'inspection' : 'operation')
  const abort = new AbortController()
  const stop = follow(abort, endsWithClient ? [use.signal, exchange.closed] : [use.signal])
  const startedAt = performance.now()
  let done = 0
  const onProgress = (from: number, length: number): void => {
    done += length
    use.progress(from, length)
  }
  try {
    await work({ signal: abort.signal, buffers, onProgress })
  } catch (error) {
    // Who was canceled was cut off by us, and did not leave.
    throw error instanceof ClientGoneError && abort.signal.aborted ? abort.signal.reason : error
  } finally {
    stop()
    use.end()
    const ms = Math.round(performance.now() - startedAt)
    exchange.logger.debug({ op, offset, size, done, ms }, 'operation ended')
  }
}

/** Runs `work`, which sends a body: a write that waits for the client ends only with the connection. */
export async function cutOnAbort(
  exchange: Exchange,
  signal: AbortSignal,
  work: () => Promise<void>,
): Promise<void> {
  const cut = (): void => {
    if (exchange.headersSent) exchange.cut()
  }
  signal.addEventListener('abort', cut)
  try {
    await work()
  } finally {
    signal.removeEventListener('abort', cut)
  }
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
  return { inactivityMs: ticket.definition.inactivityTimeout * 1000, minRate: minBodyRate }
}

/** Aborts with the first of the signals. AbortSignal.any would stay linked to the ticket's. */
function follow(abort: AbortController, signals: readonly AbortSignal[]): () => void {
  const links = signals.map((signal) => {
    const link = (): void => abort.abort(signal.reason)
    if (signal.aborted) link()
    signal.addEventListener('abort', link)
    return () => signal.removeEventListener('abort', link)
  })
  return () => links.forEach((unlink) => unlink())
}
