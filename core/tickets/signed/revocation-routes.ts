/** The control service's part for signed tickets: which transfers are over before their tokens are. */
import { BadRequestError } from '../../http/errors.js'
import type { Exchange } from '../../http/exchange.js'
import type { Route } from '../../http/routes.js'
import type { TicketStore } from '../store.js'
import { TRANSFER_ID } from './claims.js'
import type { Revocations } from './revocations.js'

export interface RevocationRoutesOptions {
  readonly revocations: Revocations
  readonly store: TicketStore
  /** Seconds PUT waits for operations; 0 answers at once. */
  readonly removeTimeout: number
  /** Seconds since 1970. */
  readonly now: () => number
}

export function revocationRoutes(options: RevocationRoutesOptions): Route[] {
  const { revocations, store, removeTimeout, now } = options

  const put = async (exchange: Exchange): Promise<void> => {
    requireTransferId(exchange)
    const until = exchange.hasBody ? parseUntil(await exchange.readJson(), now()) : undefined
    const saving = revocations.add(exchange.id, until)
    // What could not be saved is revoked all the same, and what runs must not go on meanwhile.
    const ended = await Promise.allSettled([saving, removeTickets(exchange.id)])
    for (const result of ended) if (result.status === 'rejected') throw result.reason
    exchange.send(200)
  }

  const removeTickets = async (transferId: string): Promise<void> => {
    const signed = store.list().filter(({ isSigned, definition }) => {
      return isSigned && definition.transferId === transferId
    })
    const ids = signed.map(({ definition }) => definition.id)
    const removed = ids.map((id) => store.remove(id, removeTimeout * 1000))
    for (const result of await Promise.allSettled(removed)) {
      if (result.status === 'rejected') throw result.reason
    }
  }

  const remove = async (exchange: Exchange): Promise<void> => {
    requireTransferId(exchange)
    await revocations.remove(exchange.id)
    exchange.send(204)
  }

  const list = (exchange: Exchange): void => {
    const entries = revocations.list().map((entry) => ({
      transfer_id: entry.transferId,
      revoked: Math.floor(entry.revoked),
      until: Math.ceil(revocations.endOf(entry)),
    }))
    exchange.sendJson(entries)
  }

  return [
    { path: '/revocations/:id', methods: { PUT: put, DELETE: remove } },
    { path: '/revocations', methods: { GET: list } },
  ]
}

function requireTransferId(exchange: Exchange): void {
  if (TRANSFER_ID.test(exchange.id)) return
  throw new BadRequestError('the path has no transfer id as tokens may have')
}

function parseUntil(json: unknown, now: number): number | undefined {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new BadRequestError('the body is not a JSON object')
  }
  const until: unknown = 'until' in json ? json.until : undefined
  if (until === undefined) return undefined
  if (typeof until !== 'number' || !Number.isSafeInteger(until)) {
    throw new BadRequestError('until must be an integer, seconds since 1970')
  }
  if (until <= now) throw new BadRequestError('until is over')
  return until
}
