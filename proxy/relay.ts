/**
 * One request at the proxy: authorized here first, then asked of the daemon, and its answer passed on as
 * it comes. Nothing is stored on the way.
 */
import type { BufferPool } from '../core/buffer-pool.js'
import type { Exchange, Headers } from '../core/http/exchange.js'
import { cutOnAbort, follow, operate, type OperateOptions } from '../core/images/operate.js'
import { watchOf, withTicket } from '../core/images/ticket.js'
import type { TicketOp } from '../core/tickets/definition.js'
import type { TicketGate } from '../core/tickets/gate.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { BodyMemory } from './body-memory.js'
import { ClientContext } from './client-context.js'
import type { DaemonAnswer, DaemonRequest } from './daemon-request.js'
import { DaemonAnswerError, DaemonGoneError } from './errors.js'
import { answerHeaders, answerTrailers } from './headers.js'
import { pump, readAll } from './pump.js'
import type { DaemonCall, Upstream, Upstreams } from './upstreams.js'
import { refuseLoop } from './via.js'

/** What the routes need of the proxy. */
export interface RelayServices {
  readonly gate: TicketGate
  readonly upstreams: Upstreams
  /** For bytes of images, whichever way they go. */
  readonly buffers: BufferPool
  /** Bytes per second a body must move. */
  readonly minBodyRate: number
  /** Of the proxy's own local service, told to clients on this host. */
  readonly localSocket: string | undefined
}

export interface Relay {
  readonly ticket: Ticket
  readonly upstream: Upstream
}

/** Answers up to here are passed on in one piece. */
const SMALL = 64 * 1024

/**
 * The only place where the proxy authorizes. `check` sees the ticket and refuses what is outside of it;
 * no daemon has heard of the request before.
 */
export function useDaemon(
  exchange: Exchange,
  services: RelayServices,
  op: TicketOp,
  check: (ticket: Ticket) => void,
  work: (relay: Relay) => Promise<void>,
): Promise<void> {
  return withTicket(exchange, services.gate, op, async (ticket) => {
    check(ticket)
    refuseLoop(exchange)
    const upstream = services.upstreams.of(ticket)
    exchange.bind({ daemon: upstream.url.address })
    ClientContext.attach(exchange.connection, ticket)
    await upstream.ready()
    await work({ ticket, upstream })
  })
}

/** Runs `work` as an operation of the ticket; `signal` ends what it asks of the daemon at once. */
export function operateThere(
  exchange: Exchange,
  { ticket }: Relay,
  options: OperateOptions,
  work: (handle: {
    signal: AbortSignal
    onProgress: (offset: number, size: number) => void
  }) => Promise<void>,
): Promise<void> {
  return operate(exchange, ticket, options, (handle) =>
    cutOnAbort(exchange, handle.signal, () => work(handle)),
  )
}

/** Runs `work`, which moves nothing, until the ticket is canceled or the client leaves. */
export async function whileValid(
  exchange: Exchange,
  ticket: Ticket,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const abort = new AbortController()
  const stop = follow(abort, [ticket.canceled, exchange.closed])
  try {
    await cutOnAbort(exchange, abort.signal, () => work(abort.signal))
  } finally {
    stop()
  }
}

export interface Question extends DaemonCall {
  /** Small, and complete. */
  readonly body?: Buffer
  /** Whether the daemon may safely get it twice. */
  readonly isRepeatable: boolean
}

/**
 * Asks the daemon. When a connection that was kept turns out to be dead the question is repeated on
 * another, if it may be.
 */
export async function ask(
  upstream: Upstream,
  { body, isRepeatable, ...call }: Question,
  signal: AbortSignal,
): Promise<DaemonAnswer> {
  for (;;) {
    const request = await upstream.begin(call, signal)
    const stop = cancelOn(signal, request)
    request.end(body)
    try {
      const answer = await request.answer
      answer.body.whenReleased(stop)
      checkAnswer(answer)
      return answer
    } catch (error) {
      stop()
      if (upstream.leavesSocket(request, error)) continue
      // A fresh connection that breaks is the daemon's own doing.
      const mayRepeat = isRepeatable && request.isReused && error instanceof DaemonGoneError
      if (!mayRepeat || signal.aborted) throw error
    }
  }
}

/** Cancels the request, or its answer while that comes, with the signal's reason. */
export function cancelOn(signal: AbortSignal, request: DaemonRequest): () => void {
  const cancel = (): void => request.cancel(signal.reason as Error)
  if (signal.aborted) cancel()
  signal.addEventListener('abort', cancel)
  return () => signal.removeEventListener('abort', cancel)
}

/**
 * Success of an upload that the daemon cannot have seen the end of is none: whoever believed it would
 * throw the image away.
 */
export function checkSuccess(answer: DaemonAnswer, request: DaemonRequest, size?: number): void {
  if (answer.status >= 300 || request.hasAll(size)) return
  answer.body.release()
  throw new DaemonAnswerError('success before the end of the body')
}

/** What a daemon never says. */
export function checkAnswer(answer: DaemonAnswer): void {
  const { status, body } = answer
  const isRedirect = status >= 300 && status < 400 && status !== 304
  const isStatus = !isRedirect && status >= 200 && status <= 599
  if (isStatus && isCodingKnown(answer)) return
  body.release()
  if (isStatus) throw new DaemonAnswerError('a transfer coding that nobody asked for')
  throw new DaemonAnswerError(isRedirect ? 'a redirect' : `status ${status}`)
}

/**
 * With any other coding than chunked the body ends with the connection (RFC 9112, 6.3), and in HTTP/1.0
 * there is none (6.1).
 */
function isCodingKnown({ head }: DaemonAnswer): boolean {
  const coding = head.headers['transfer-encoding']
  if (coding === undefined) return true
  return coding.toLowerCase() === 'chunked' && head.httpVersion === '1.1'
}

export interface PassOptions {
  /** Instead of the daemon's own. */
  readonly status?: number
  readonly headers?: Headers
  /** Bytes that the client may get; the answer ends there, and badly, if it has more. */
  readonly limit?: number
  /** Of an image's bytes: called with the size of what went to the client. */
  readonly onMoved?: (size: number) => void
  /** For an image's bytes: taken, and released by the caller. */
  readonly memory?: BodyMemory
}

/** Passes the answer on to the client. */
export async function passOn(
  exchange: Exchange,
  services: RelayServices,
  ticket: Ticket,
  answer: DaemonAnswer,
  options: PassOptions = {},
): Promise<void> {
  const { body } = answer
  const { status = answer.status, headers = answerHeaders(answer.head, exchange) } = options
  try {
    if (status === 403) exchange.closeAfter() // as the daemon does: the ticket is no good any more
    const length = headers['content-length']
    if (hasNoEnd(exchange, answer)) throw new DaemonAnswerError('a body whose end nobody can tell')
    const size = length === undefined ? undefined : Number(length)
    if (status === 204) {
      exchange.send(204, '', { ...headers, 'content-length': 0 })
      return
    }
    if (exchange.method === 'HEAD' || status === 304) {
      if (size === undefined) exchange.sendHead(status, headers)
      else exchange.send(status, '', headers)
      return
    }
    if (options.onMoved === undefined && size !== undefined && size <= SMALL) {
      exchange.send(status, await readAll(body, size), headers)
      return
    }
    await stream(exchange, services, ticket, answer, { ...options, status, headers, size })
  } finally {
    body.release()
  }
}

/** Reads a small answer that is passed on later, or not at all, so that its connection is free. */
export async function keep(
  exchange: Exchange,
  answer: DaemonAnswer,
): Promise<{ readonly text: Buffer; readonly headers: Headers }> {
  const { body, head } = answer
  try {
    if (hasNoEnd(exchange, answer)) throw new DaemonAnswerError('a body whose end nobody can tell')
    const text = await readAll(body, SMALL)
    const headers: Headers = { ...answerHeaders(head, exchange), 'content-length': text.length }
    delete headers['trailer']
    return { text, headers }
  } finally {
    body.release()
  }
}

/** It ends with the connection: a daemon that was killed would look as if it had finished. */
function hasNoEnd({ method }: Exchange, { status, head }: DaemonAnswer): boolean {
  if (method === 'HEAD' || status === 204 || status === 304) return false
  const { 'content-length': length, 'transfer-encoding': coding } = head.headers
  return length === undefined && coding === undefined
}

interface Streamed extends PassOptions {
  readonly status: number
  readonly headers: Headers
  readonly size: number | undefined
}

async function stream(
  exchange: Exchange,
  { minBodyRate }: RelayServices,
  ticket: Ticket,
  { head, body }: DaemonAnswer,
  { status, headers, size, limit = Infinity, onMoved, memory = BodyMemory.ofText() }: Streamed,
): Promise<void> {
  const watch = watchOf(ticket, minBodyRate)
  const sink = exchange.sink(status, headers, {
    watch,
    cut: () => exchange.cut(),
    ...(onMoved === undefined ? {} : { pace: ticket.rate }), // of the image, that is
  })
  try {
    const moved = onMoved ?? ((): void => ticket.touch())
    const beyond = (): Error => new DaemonAnswerError('more than the ticket allows')
    await pump(body, sink, { memory, size, limit, beyond, onMoved: moved })
    sink.start()
    exchange.end('trailer' in headers ? answerTrailers(head) : undefined)
  } finally {
    sink.release()
  }
}
