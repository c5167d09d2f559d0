/** GET and HEAD /images/{id} through the proxy. */
import { RangeNotSatisfiableError } from '../core/http/errors.js'
import type { Exchange, Headers } from '../core/http/exchange.js'
import { parseRange, resolveRange, type RangeRequest } from '../core/http/range.js'
import type { OperationHandle } from '../core/images/operate.js'
import { noteClose, requireId } from '../core/images/requests.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { BodyMemory } from './body-memory.js'
import type { DaemonAnswer } from './daemon-request.js'
import { DaemonAnswerError } from './errors.js'
import { answerHeaders, requestHeaders } from './headers.js'
import {
  ask,
  operateThere,
  passOn,
  useDaemon,
  whileValid,
  type Question,
  type Relay,
  type RelayServices,
} from './relay.js'

export async function relayDownload(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  noteClose(exchange)
  const header = exchange.method === 'HEAD' ? undefined : exchange.header('range')
  const wanted = header === undefined ? undefined : parseRange(header)
  await useDaemon(
    exchange,
    services,
    'read',
    (ticket) => checkRange(exchange, wanted, ticket),
    async (relay) => {
      if (exchange.method === 'HEAD') await head(exchange, services, relay)
      else await download(exchange, services, relay, wanted)
    },
  )
}

async function head(exchange: Exchange, services: RelayServices, { ticket, upstream }: Relay) {
  const question = { method: 'HEAD', headers: requestHeaders(exchange), isRepeatable: true }
  await whileValid(exchange, ticket, async (signal) => {
    const answer = await ask(upstream, question, signal)
    extentOf(answer) // no part is asked for
    const headers = answerHeaders(answer.head, exchange)
    const isImage = answer.status === 200 || answer.status === 304
    if (isImage && Number(headers['content-length']) > ticket.limit) {
      headers['content-length'] = ticket.limit
    }
    await passOn(exchange, services, ticket, answer, { headers })
  })
}

async function download(
  exchange: Exchange,
  services: RelayServices,
  relay: Relay,
  wanted: RangeRequest | undefined,
): Promise<void> {
  const { ticket, upstream } = relay
  const headers = requestHeaders(exchange, 'download')
  const memory = BodyMemory.ofImage(services.buffers, sizeOf(wanted, ticket.limit))
  const question: Question = {
    method: 'GET',
    headers,
    isRepeatable: true,
    takesWithheld: true,
    memory,
  }
  const work = async ({ signal, onProgress }: OperationHandle): Promise<void> => {
    let answer = await ask(upstream, question, signal)
    let asked = wanted
    let isWhole = false
    if (extentOf(answer, asked).last >= ticket.limit) {
      answer.body.release()
      isWhole = answer.status === 200
      if (isWhole && ticket.limit === 0) {
        const empty: Headers = { ...answerHeaders(answer.head, exchange), 'content-length': 0 }
        // Those of the daemon are of its bytes.
        for (const name of ['content-digest', 'repr-digest', 'digest', 'trailer'])
          delete empty[name]
        exchange.send(200, '', empty)
        return
      }
      const part = clipped(isWhole ? undefined : wanted, ticket.limit)
      asked = part
      headers['range'] = `bytes=${part.first}-${part.last}`
      // Whatever it compared, its answer was the whole image.
      if (isWhole) delete headers['if-range']
      answer = await ask(upstream, question, signal)
      if (extentOf(answer, asked).last >= ticket.limit) {
        answer.body.release()
        throw new DaemonAnswerError('more than the range asked for')
      }
    }
    const passed = answerHeaders(answer.head, exchange)
    clipTotal(passed, ticket.limit)
    const isData = answer.status === 200 || answer.status === 206
    if (!isData) memory.release()
    const isRestored = isWhole && answer.status === 206
    const { first, last } = extentOf(answer, asked)
    let offset = first
    const limit = (answer.status === 206 ? last + 1 : ticket.limit) - offset
    if (isRestored) delete passed['content-range']
    const moved = (size: number): void => {
      onProgress(offset, size)
      offset += size
    }
    await passOn(exchange, services, ticket, answer, {
      status: isRestored ? 200 : answer.status,
      headers: passed,
      ...(isData ? { limit, onMoved: moved, memory } : {}),
    })
  }
  const options = { op: 'read', offset: 0, size: undefined, endsWithClient: true } as const
  try {
    await operateThere(exchange, relay, options, work)
  } finally {
    memory.release()
  }
}

/** At most so many bytes; more only if the image has changed (If-Range). */
function sizeOf(wanted: RangeRequest | undefined, limit: number): number {
  if (wanted === undefined) return limit
  if (wanted.kind === 'suffix') return Math.min(wanted.size, limit)
  const end = wanted.kind === 'from' ? limit : Math.min(wanted.last + 1, limit)
  return Math.max(0, end - wanted.first)
}

/** What the daemon would refuse, too, if its ticket is as large as this one. */
function checkRange(exchange: Exchange, wanted: RangeRequest | undefined, ticket: Ticket): void {
  if (wanted === undefined || wanted.kind === 'suffix') return
  // It is no range if the image has changed, and clients that ask for a byte too much are tolerated.
  const isTolerated = exchange.header('if-range') !== undefined
  const last = wanted.kind === 'from-to' ? wanted.last : wanted.first
  const isBareLibcurl =
    exchange.header('accept') === '*/*' && exchange.header('user-agent') === undefined
  if (isTolerated || (isBareLibcurl && last === ticket.limit && last > wanted.first)) return
  if (wanted.first < ticket.limit && last < ticket.limit) return
  const { size } = ticket.definition
  throw new RangeNotSatisfiableError(`Range is outside of the ${size} accessible bytes`, size)
}

interface Extent {
  readonly first: number
  readonly last: number
}

/**
 * The bytes of the image that an answer has. Throws DaemonAnswerError when it does not say, or they are
 * not those that were wanted: the client would store them in the wrong place.
 */
function extentOf(answer: DaemonAnswer, wanted?: RangeRequest): Extent {
  const { status, head, body } = answer
  if (status === 200) {
    const { 'content-length': length } = head.headers
    // With trailers the length is not told in advance; the limit of passOn() counts then.
    return { first: 0, last: length === undefined ? -1 : Number(length) - 1 }
  }
  if (status !== 206) return { first: 0, last: -1 }
  if (wanted === undefined) {
    body.release()
    throw new DaemonAnswerError('a part of the image, though nobody asked for one')
  }
  const { 'content-length': length, 'content-range': range = '' } = head.headers
  const [, first, last, total] = (/^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range) ?? []).map(Number)
  if (first !== undefined && last !== undefined && total !== undefined && first <= last) {
    const isWhole = length === undefined || Number(length) === last - first + 1
    if (isWhole && isWanted({ first, last }, total, wanted)) return { first, last }
  }
  body.release()
  throw new DaemonAnswerError('a part of the image that is not the one asked for')
}

/** `total` is not a number when the daemon does not tell the size of the image. */
function isWanted({ first, last }: Extent, total: number, wanted: RangeRequest): boolean {
  const end = Number.isNaN(total) ? last : total - 1
  if (last > end) return false
  if (wanted.kind === 'suffix') return last === end && last - first < wanted.size
  const until = wanted.kind === 'from' ? end : wanted.last
  return first === wanted.first && last === Math.min(until, end)
}

/** The image seems to be as small as the ticket. */
function clipTotal(headers: Headers, limit: number): void {
  const [, part, total] = /^(bytes .*\/)(\d+)$/.exec(String(headers['content-range'] ?? '')) ?? []
  if (part !== undefined && Number(total) > limit) headers['content-range'] = `${part}${limit}`
}

function clipped(wanted: RangeRequest | undefined, limit: number): RangeRequest & Extent {
  const { offset, size } =
    wanted === undefined ? { offset: 0, size: limit } : resolveRange(wanted, limit, limit)
  return { kind: 'from-to', first: offset, last: offset + size - 1 }
}
