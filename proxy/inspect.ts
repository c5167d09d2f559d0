/** PATCH, extents and checksums through the proxy: small questions, and answers that may be long. */
import type { Exchange, Headers } from '../core/http/exchange.js'
import { resolveRange } from '../core/http/range.js'
import { parsePatch } from '../core/images/patch-request.js'
import { beyondTicket, requireId } from '../core/images/requests.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { NoDirtyExtentsError } from './errors.js'
import { answerHeaders, requestHeaders } from './headers.js'
import { extentsOld, isWithout, mayBeWithoutPatch, patchOld } from './old-daemon.js'
import {
  ask,
  keep,
  operateThere,
  passOn,
  useDaemon,
  whileValid,
  type RelayServices,
} from './relay.js'
import { noteRefusal } from './refusal.js'
import { requireWhole } from './whole-image.js'

/** The daemon gets what was understood here, not what was written. */
export async function relayPatch(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  // The body is checked before the ticket, but nobody is invited to send one without a ticket.
  if (exchange.expectsContinue) await services.gate.authorize(exchange, 'write')
  const request = parsePatch(await exchange.readJson())
  const { offset, size } = request.op === 'zero' ? request : { offset: 0, size: 0 }
  const body = Buffer.from(JSON.stringify(request))
  const headers = {
    ...requestHeaders(exchange),
    'content-type': 'application/json',
    'content-length': body.length,
  }
  await useDaemon(
    exchange,
    services,
    'write',
    () => undefined,
    async (relay) => {
      const { ticket } = relay
      if (offset + size > ticket.limit) {
        await noteRefusal(exchange, relay)
        throw beyondTicket(ticket.definition.size)
      }
      const options = { op: request.op, offset, size, endsWithClient: true }
      await operateThere(exchange, relay, options, async ({ signal, onProgress }) => {
        // Zeroing twice is not harmless: somebody may have written in between.
        const call = { method: 'PATCH', headers, body, isWork: true, isRepeatable: false }
        const answer = await ask(relay.upstream, call, signal)
        if (mayBeWithoutPatch(answer)) {
          const refusal = await keep(exchange, answer)
          if (await isWithout(request.op, exchange, relay, signal)) {
            await patchOld(exchange, services, relay, request, { signal, onProgress })
          } else {
            exchange.send(answer.status, refusal.text, refusal.headers)
          }
          return
        }
        if (answer.status < 300) onProgress(offset, size)
        await passOn(exchange, services, ticket, answer)
      })
    },
  )
}

export async function relayExtents(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  let suffix = ''
  const isDirty = exchange.query.get('context') === 'dirty'
  await useDaemon(
    exchange,
    services,
    'read',
    (ticket) => {
      if (isDirty && !ticket.definition.dirty) throw new NoDirtyExtentsError()
      suffix = `/extents${extentsQuery(exchange, ticket)}`
    },
    async ({ ticket, upstream }) => {
      await whileValid(exchange, ticket, async (signal) => {
        const { method } = exchange
        const call = { method, suffix, headers: requestHeaders(exchange), isRepeatable: true }
        const answer = await ask(upstream, { ...call, isWork: true }, signal)
        if (answer.status < 300) ticket.touch()
        if (!isDirty && (answer.status === 404 || answer.status === 405)) {
          answer.body.release()
          await extentsOld(exchange, { ticket, upstream }, signal)
          return
        }
        if (ticket.limit === 0 && answer.status === 200) {
          answer.body.release()
          sendEmptyImage(exchange, answerHeaders(answer.head, exchange), isDirty)
          return
        }
        await passOn(exchange, services, ticket, answer)
      })
    },
  )
}

export async function relayChecksum(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  const suffix = `/checksum${queryOf(exchange)}`
  await useDaemon(
    exchange,
    services,
    'read',
    () => undefined,
    async (relay) => {
      const { limit } = relay.ticket
      const options = { op: 'checksum', offset: 0, size: limit, endsWithClient: true } as const
      await operateThere(exchange, relay, options, async ({ signal }) => {
        await requireWhole(exchange, relay, signal)
        const { method } = exchange
        const call = { method, suffix, headers: requestHeaders(exchange), isRepeatable: true }
        const answer = await ask(relay.upstream, { ...call, isWork: true }, signal)
        await passOn(exchange, services, relay.ticket, answer)
      })
    },
  )
}

/** Which there are only the daemon knows, and which daemon only a ticket. */
export async function relayAlgorithms(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  await useDaemon(
    exchange,
    services,
    'read',
    () => undefined,
    async ({ ticket, upstream }) => {
      await whileValid(exchange, ticket, async (signal) => {
        const { method } = exchange
        const suffix = '/checksum/algorithms'
        const call = { method, suffix, headers: requestHeaders(exchange), isRepeatable: true }
        await passOn(exchange, services, ticket, await ask(upstream, call, signal))
      })
    },
  )
}

/** No extents behind the end of our ticket, should the daemon's be larger. */
function extentsQuery(exchange: Exchange, { limit, definition }: Ticket): string {
  const query = new Map(exchange.query)
  const numberOf = (key: string): number | undefined => {
    const text = query.get(key)
    return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined
  }
  const start = query.has('start') ? numberOf('start') : 0
  const length = query.has('length') ? numberOf('length') : Infinity
  // What is misspelt is for the daemon to judge: it answers 400.
  if (start === undefined || length === undefined) return queryOf(exchange)
  if (start > 0) resolveRange({ kind: 'from', first: start }, limit, definition.size)
  if (limit < Number.MAX_SAFE_INTEGER) query.set('length', String(Math.min(length, limit - start)))
  return encode(query)
}

/** As the daemon says it of an empty file: an extent without length, which clients iterate over. */
function sendEmptyImage(exchange: Exchange, headers: Headers, isDirty: boolean): void {
  const kind = isDirty ? { dirty: false, zero: false } : { zero: false, hole: false }
  const extent = JSON.stringify({ start: 0, length: 0, ...kind })
  const isLines = String(headers['content-type']).startsWith('application/x-ndjson')
  const text = isLines ? `${extent}\n` : `[${extent}]\n`
  exchange.send(200, text, { ...headers, 'content-length': text.length })
}

function queryOf(exchange: Exchange): string {
  return encode(exchange.query)
}

function encode(query: ReadonlyMap<string, string>): string {
  return query.size === 0 ? '' : `?${new URLSearchParams([...query]).toString()}`
}
