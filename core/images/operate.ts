/** One request's work on an image: counted by its ticket, ended with it, logged. */
import { ClientGoneError } from '../http/errors.js'
import type { Exchange } from '../http/exchange.js'
import type { Ticket } from '../tickets/ticket.js'

export interface OperateOptions {
  /** For the log. */
  readonly op: 'read' | 'write' | 'zero' | 'flush' | 'checksum'
  readonly offset: number
  /** Undefined when only the end of the body will tell. */
  readonly size: number | undefined
  /** Whether a client that has gone ends the work, besides cancellation. */
  readonly endsWithClient: boolean
}

/** What the work has to obey and to tell. */
export interface OperationHandle {
  /** Aborted with the reason why the work must end. */
  readonly signal: AbortSignal
  /** Bytes [offset, offset + size) are done. */
  readonly onProgress: (offset: number, size: number) => void
}

/** Runs `work` as an operation of the ticket: counted, canceled with it, logged. */
export async function operate(
  exchange: Exchange,
  ticket: Ticket,
  { op, offset, size, endsWithClient }: OperateOptions,
  work: (context: OperationHandle) => Promise<void>,
): Promise<void> {
  const use = ticket.begin(op === 'checksum' ? 'inspection' : 'operation')
  const abort = new AbortController()
  const stop = follow(abort, endsWithClient ? [use.signal, exchange.closed] : [use.signal])
  const startedAt = performance.now()
  const changes = op === 'write' || op === 'zero'
  let done = 0
  const onProgress = (from: number, length: number): void => {
    done += length
    use.progress(from, length)
    if (changes) ticket.unfinished.wrote(from, length)
  }
  try {
    await work({ signal: abort.signal, onProgress })
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

/** Aborts with the first of the signals. AbortSignal.any would stay linked to the ticket's. */
export function follow(abort: AbortController, signals: readonly AbortSignal[]): () => void {
  const links = signals.map((signal) => {
    const link = (): void => abort.abort(signal.reason)
    if (signal.aborted) link()
    signal.addEventListener('abort', link)
    return () => signal.removeEventListener('abort', link)
  })
  return () => links.forEach((unlink) => unlink())
}
