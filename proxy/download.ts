/** GET and HEAD /images/{id} through the proxy. */
import { RangeNotSatisfiableError } from '../core/http/errors.js'
import type { Exchange } from '../core/http/exchange.js'
import { parseRange, resolveRange, type RangeRequest } from '../core/http/range.js'
import { noteClose, requireId } from '../core/images/requests.js'
import type { Ticket } from '../core/tickets/ticket.js'
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
  const question: Question = { method: 'GET', headers, isRepeatable: true }
  const options = { op: 'read', offset: 0, size: undefined, endsWithClient: true } as const
  await operateThere(exchange, relay, options, async ({ signal, onProgress }) => {
    let answer = await ask(upstream, question, signal)
    let isWhole = false
    if (reachesBeyond(answer, ticket.limit)) {
      answer.body.release()
      isWhole = answer.status === 200
      headers['range'] = clipped(isWhole ? undefined : wanted, ticket.limit)
      answer = await ask(upstream, question, signal)
      if (reachesBeyond(answer, ticket.limit)) {
        answer.body.release()
        throw new DaemonAnswerError('more than the range asked for')
      }
    }
    const passed = answerHeaders(answer.head, exchange)
    const isData = answer.status === 200 || answer.status === 206
    const isRestored = isWhole && answer.status === 206
    let offset = extentOf(answer).first
    const limit = ticket.limit - offset
    if (isRestored) delete passed['content-range']
    const moved = (size: number): void => {
      onProgress(offset, size)
      offset += size
    }
    await passOn(exchange, services, ticket, answer, {
      status: isRestored ? 200 : answer.status,
      headers: passed,
      ...(isData ? { limit, onMoved: moved } : {}),
    })
  })
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

/** Whether the daemon's ticket is larger than ours, and it gives more than ours allows. */
function reachesBeyond(answer: DaemonAnswer, limit: number): boolean {
  return extentOf(answer).last >= limit
}

/** The bytes of the image that an answer has. Throws DaemonAnswerError when it does not say. */
function extentOf({ status, head, body }: DaemonAnswer): { first: number; last: number } {
  if (status === 200) {
    const { 'content-length': length } = head.headers
    // With trailers the length is not told in advance; the limit of passOn() counts then.
    return { first: 0, last: length === undefined ? -1 : Number(length) - 1 }
  }
  if (status !== 206) return { first: 0, last: -1 }
  const [, first, last] =
    /^bytes (\d+)-(\d+)\/(?:\d+|\*)$/.exec(head.headers['content-range'] ?? '') ?? []
  if (first === undefined || last === undefined) {
    body.release()
    throw new DaemonAnswerError('a part of the image that is not said')
  }
  return { first: Number(first), last: Number(last) }
}

function clipped(wanted: RangeRequest | undefined, limit: number): string {
  const { offset, size } =
    wanted === undefined ? { offset: 0, size: limit } : resolveRange(wanted, limit, limit)
  return `bytes=${offset}-${offset + size - 1}`
}
