/** PUT /images/{id} through the proxy: the body goes on as it comes. */
import { parseContentDigest } from '../core/http/digest-fields.js'
import { BadRequestError, ClientGoneError, RangeNotSatisfiableError } from '../core/http/errors.js'
import type { Exchange } from '../core/http/exchange.js'
import { parseContentRange } from '../core/http/range.js'
import { follow } from '../core/images/operate.js'
import {
  beyondTicket,
  noteClose,
  parseFlush,
  requireId,
  requirePlainBody,
} from '../core/images/requests.js'
import { watchOf } from '../core/images/ticket.js'
import { BodyMemory } from './body-memory.js'
import { AnsweredEarly, type DaemonAnswer, type DaemonRequest } from './daemon-request.js'
import { DaemonGoneError } from './errors.js'
import { requestHeaders } from './headers.js'
import { pump } from './pump.js'
import { noteRefusal } from './refusal.js'
import {
  cancelOn,
  checkAnswer,
  checkSuccess,
  operateThere,
  passOn,
  useDaemon,
  type Relay,
  type RelayServices,
} from './relay.js'
import { SentBytes } from './sent-bytes.js'

/** A daemon that does not know Expect says nothing; then the body is sent all the same. */
const CONTINUE_MS = 1000
/** Between looks at a client that waits: soon enough for who waits behind it. */
const LOOK_MS = 500

export async function relayUpload(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  noteClose(exchange)
  requirePlainBody(exchange)
  const size = exchange.contentLength
  if (size === undefined && !exchange.isChunked) {
    throw new BadRequestError('neither Content-Length nor Transfer-Encoding: chunked')
  }
  const range = exchange.header('content-range')
  const offset = range === undefined ? 0 : parseContentRange(range)
  const suffix = parseFlush(exchange) ? '' : '?flush=n'
  parseContentDigest(exchange.header('content-digest')) // the daemon compares it
  await useDaemon(
    exchange,
    services,
    'write',
    () => undefined,
    async (relay) => {
      const options = { op: 'write', offset, size, endsWithClient: false } as const
      await operateThere(exchange, relay, options, async ({ signal, onProgress }) => {
        if (suffix !== '') relay.upstream.hasSkippedFlush = true
        const sent = new SentBytes(offset, onProgress)
        const upload = { suffix, offset, size, sent }
        const answer = await send(exchange, services, relay, upload, signal).catch(
          async (error: unknown) => {
            if (error instanceof RangeNotSatisfiableError) await noteRefusal(exchange, relay)
            throw error
          },
        )
        if (answer.status < 300) sent.confirm()
        await passOn(exchange, services, relay.ticket, answer)
      })
    },
  )
}

interface Upload {
  readonly suffix: string
  readonly offset: number
  readonly size: number | undefined
  readonly sent: SentBytes
}

interface Attempt {
  readonly request: DaemonRequest
  readonly memory: BodyMemory
  readonly signal: AbortSignal
}

/** Resolves with the daemon's answer, which may come before the body has ended. */
async function send(
  exchange: Exchange,
  services: RelayServices,
  relay: Relay,
  upload: Upload,
  signal: AbortSignal,
): Promise<DaemonAnswer> {
  const { definition, limit } = relay.ticket
  if (upload.offset + (upload.size ?? 0) > limit) throw beyondTicket(definition.size)
  for (;;) {
    const headers = { ...requestHeaders(exchange, 'upload'), ...framing(exchange, upload) }
    const memory = BodyMemory.ofImage(services.buffers, upload.size)
    const call = { method: 'PUT', suffix: upload.suffix, headers, isWork: true, memory }
    const request = await whileWanted(exchange, signal, (wanted) =>
      relay.upstream.begin(call, wanted),
    )
    const stopCancel = cancelOn(signal, request)
    const stopHasten = hastenOn(exchange.closed, request)
    const stop = (): void => {
      stopCancel()
      stopHasten()
    }
    const progress = { isBodyTouched: false }
    try {
      try {
        await request.connected() // until then nothing is taken from the client
        if (exchange.expectsContinue) await request.invited(CONTINUE_MS)
        if (!request.settled.aborted) {
          progress.isBodyTouched = upload.size !== 0
          // From now on the daemon knows what is to come, also if nothing comes.
          if (progress.isBodyTouched && !exchange.isBodyHere) request.announce()
          const attempt = { request, memory, signal }
          if (await sendBody(exchange, services, relay, upload, attempt)) request.end()
        }
      } finally {
        void request.whenUnused.then(() => memory.release())
      }
      const answer = await request.answer
      answer.body.whenReleased(stop)
      checkAnswer(answer)
      checkSuccess(answer, request, upload.size)
      return answer
    } catch (error) {
      stop()
      request.cancel(error as Error)
      if (!progress.isBodyTouched && relay.upstream.leavesSocket(request, error)) continue
      const mayRepeat = request.isReused && error instanceof DaemonGoneError
      if (!mayRepeat || progress.isBodyTouched || signal.aborted) throw error
    }
  }
}

/**
 * Before anything is read of the body: `wanted` is aborted when the client has gone, but not if all of the
 * body has come, which is written. Nobody tells of clients that nobody reads from.
 */
async function whileWanted<T>(
  exchange: Exchange,
  signal: AbortSignal,
  wait: (wanted: AbortSignal) => Promise<T>,
): Promise<T> {
  const { closed, connection } = exchange
  const abort = new AbortController()
  const stop = follow(abort, [signal])
  const look = (): void => {
    const hasGone = closed.aborted || connection.hasLeft
    if (hasGone && !exchange.isBodyHere) abort.abort(new ClientGoneError())
  }
  if (closed.aborted) look()
  closed.addEventListener('abort', look)
  const timer = setInterval(look, LOOK_MS)
  try {
    return await wait(abort.signal)
  } finally {
    clearInterval(timer)
    closed.removeEventListener('abort', look)
    stop()
  }
}

/** What a client sent before it went is written, but a daemon that hangs must not hold it all for long. */
function hastenOn(closed: AbortSignal, request: DaemonRequest): () => void {
  const hasten = (): void => request.hasten()
  if (closed.aborted) hasten()
  closed.addEventListener('abort', hasten)
  return () => closed.removeEventListener('abort', hasten)
}

/** False when the daemon has answered before the end of the body. */
async function sendBody(
  exchange: Exchange,
  { minBodyRate }: RelayServices,
  { ticket }: Relay,
  { offset, size, sent }: Upload,
  { request, memory, signal }: Attempt,
): Promise<boolean> {
  if (size === 0) return true
  let left = size ?? Infinity
  const abort = new AbortController()
  const stop = follow(abort, [signal, request.settled])
  const body = exchange.body(watchOf(ticket, minBodyRate), abort.signal, ticket.rate)
  try {
    await pump(body, request, {
      memory,
      size,
      limit: ticket.limit - offset,
      beyond: () => beyondTicket(ticket.definition.size),
      onMoved: (piece) => {
        ticket.touch()
        left -= piece
        sent.add(piece)
      },
    })
    return true
  } catch (error) {
    if (!(error instanceof AnsweredEarly)) throw error
    if (!request.hasAll(size)) return false
    sent.add(left)
    return true
  } finally {
    stop()
    body.release()
  }
}

/** Made anew for this connection. */
function framing(exchange: Exchange, { size }: Upload): Record<string, string | number> {
  return {
    'content-type': 'application/octet-stream',
    ...(size === undefined ? { 'transfer-encoding': 'chunked' } : { 'content-length': size }),
    ...(exchange.expectsContinue && size !== 0 ? { expect: '100-continue' } : {}),
  }
}
