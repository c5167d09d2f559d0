/** OPTIONS /images/{id} through the proxy: what both the daemon and this ticket allow. */
import type { Exchange } from '../core/http/exchange.js'
import { isPreflightForToken } from '../core/images/cors.js'
import { requireId } from '../core/images/requests.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { requestHeaders } from './headers.js'
import { parseMembers } from './local-socket.js'
import { readAll } from './pump.js'
import { ask, passOn, useDaemon, whileValid, type RelayServices } from './relay.js'

const METHODS = { read: ['OPTIONS', 'GET'], write: ['OPTIONS', 'GET', 'PUT', 'PATCH'] } as const
const FEATURES = {
  read: ['checksum', 'extents'],
  write: ['checksum', 'extents', 'flush', 'zero'],
} as const

/** Bytes of the daemon's answer. */
const MAX_ANSWER = 64 * 1024

export async function relayOptions(exchange: Exchange, services: RelayServices): Promise<void> {
  requireId(exchange)
  if (isPreflightForToken(exchange)) {
    exchange.send(200, '', { allow: METHODS.write.join(',') })
    return
  }
  const { localSocket } = services
  // The daemon's own is on another host, or none of the client's business.
  const socket = localSocket === undefined ? {} : { unix_socket: localSocket }
  if (exchange.id === '*') {
    const allow = METHODS.write.join(',')
    exchange.sendJson({ ...socket, features: FEATURES.write }, { allow })
    return
  }
  await useDaemon(
    exchange,
    services,
    'read',
    () => undefined,
    async ({ ticket, upstream }) => {
      await whileValid(exchange, ticket, async (signal) => {
        const call = { method: 'OPTIONS', headers: requestHeaders(exchange), isRepeatable: true }
        const answer = await ask(upstream, call, signal)
        const isOld = answer.status === 204 || answer.status === 405
        if (answer.status !== 200 && !isOld) {
          await passOn(exchange, services, ticket, answer)
          return
        }
        try {
          const members = isOld ? NOTHING : parseMembers(await readAll(answer.body, MAX_ANSWER))
          ticket.touch()
          const told = isOld ? undefined : answer.head.headers.allow
          exchange.sendJson({ ...socket, ...intersection(members, ticket) }, allow(told, ticket))
        } finally {
          answer.body.release()
        }
      })
    },
  )
}

const NOTHING: ReadonlyMap<string, unknown> = new Map()

/** What the daemon does not say it cannot do, or only for one client at a time. */
function intersection(
  members: ReadonlyMap<string, unknown>,
  ticket: Ticket,
): Record<string, unknown> {
  const { size, sparse, dirty, transferId } = ticket.definition
  const told = members.get('features')
  const own: readonly string[] = FEATURES[ticket.mayWrite() ? 'write' : 'read']
  const theirs = members.get('size')
  const isSmaller = (typeof theirs === 'number' || typeof theirs === 'bigint') && theirs < size
  const blockSize = members.get('block_size')
  return {
    features: own.filter((feature) => Array.isArray(told) && told.includes(feature)),
    max_readers: count(members.get('max_readers')),
    max_writers: count(members.get('max_writers')),
    size: isSmaller ? theirs : size,
    ...(typeof blockSize === 'number' ? { block_size: blockSize } : {}),
    sparse: sparse && members.get('sparse') !== false,
    dirty: dirty && members.get('dirty') !== false,
    transfer_id: transferId,
  }
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 ? value : 1
}

function allow(told: string | undefined, ticket: Ticket): { allow: string } {
  const own: readonly string[] = METHODS[ticket.mayWrite() ? 'write' : 'read']
  const theirs = told?.toUpperCase().split(/[\s,]+/)
  return { allow: own.filter((method) => theirs?.includes(method) ?? true).join(',') }
}
