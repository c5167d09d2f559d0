/** PATCH, extents and checksums through the proxy: small questions, and answers that may be long. */
import type { Exchange } from '../core/http/exchange.js'
import { resolveRange } from '../core/http/range.js'
import { parsePatch } from '../core/images/patch-request.js'
import { beyondTicket, requireId } from '../core/images/requests.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { requestHeaders } from './headers.js'
import { extentsOld, isWithoutPatch, patchOld } from './old-daemon.js'
import { ask, operateThere, passOn, useDaemon, whileValid, type RelayServices } from './relay.js'

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
    (ticket) => {
      if (offset + size > ticket.limit) throw beyondTicket(ticket.definition.size)
    },
    async (relay) => {
      const options = { op: request.op, offset, size, endsWithClient: true }
      await operateThere(exchange, relay, options, async ({ signal, onProgress }) => {
        // Zeroing twice is not harmless: somebody may have written in between.
        const call = { method: 'PATCH', headers, body, isWork: true, isRepeatable: false }
        const answer = await ask(relay.upstream, call, signal)
        if (isWithoutPatch(answer)) {
          answer.body.release()
          await patchOld(exchange, services, relay, request, { signal, onProgress })
          return
        }
        if (answer.status < 300) onProgress(offset, size)
        await passOn(exchange, services, relay.ticket, answer)
      })
    },
  )
}

export async function relayExtents(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  let suffix = ''
  await useDaemon(
    exchange,
    services,
    'read',
    (ticket) => void (suffix = `/extents${extentsQuery(exchange, ticket)}`),
    async ({ ticket, upstream }) => {
      await whileValid(exchange, ticket, async (signal) => {
        const { method } = exchange
        const call = { method, suffix, headers: requestHeaders(exchange), isRepeatable: true }
        const answer = await ask(upstream, { ...call, isWork: true }, signal)
        if (answer.status < 300) ticket.touch()
        const isDirty = exchange.query.get('context') === 'dirty'
        if (!isDirty && (answer.status === 404 || answer.status === 405)) {
          answer.body.release()
          await extentsOld(exchange, { ticket, upstream }, signal)
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

function queryOf(exchange: Exchange): string {
  return encode(exchange.query)
}

function encode(query: ReadonlyMap<string, string>): string {
  return query.size === 0 ? '' : `?${new URLSearchParams([...query]).toString()}`
}
