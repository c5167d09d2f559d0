/** The control service: the management engine installs, watches, extends and removes tickets. */
import { BadRequestError } from '../http/errors.js'
import type { Exchange } from '../http/exchange.js'
import type { Route } from '../http/routes.js'
import { shortId } from '../log.js'
import { parseChange, parseDefinition, type DefinitionOptions } from './definition.js'
import { logFields, type TicketStore } from './store.js'
import type { Ticket } from './ticket.js'

export interface TicketRoutesOptions extends DefinitionOptions {
  readonly store: TicketStore
  /** Seconds DELETE waits for operations; 0 answers at once. */
  readonly removeTimeout: number
  /** Keeps the tokens of a signed ticket that is deleted from making it anew. */
  readonly revoke?: (transferId: string) => Promise<void>
}

/** Milliseconds a new ticket waits for its predecessor where DELETE does not wait at all. */
const REPLACE_MS = 1000

export function ticketRoutes(options: TicketRoutesOptions): Route[] {
  const { store } = options
  const removeMs = options.removeTimeout * 1000

  const put = async (exchange: Exchange): Promise<void> => {
    requireId(exchange)
    const definition = parseDefinition(await exchange.readJson(), options)
    if (definition.id !== exchange.id) {
      throw new BadRequestError('uuid is not the id in the path')
    }
    await store.add(definition, removeMs || REPLACE_MS)
    exchange.send(200)
  }

  const get = (exchange: Exchange): void => {
    requireId(exchange)
    exchange.sendJson(store.get(exchange.id).info())
  }

  const patch = async (exchange: Exchange): Promise<void> => {
    requireId(exchange)
    store.change(exchange.id, parseChange(await exchange.readJson()))
    exchange.send(200)
  }

  const remove = async (exchange: Exchange): Promise<void> => {
    const revoking = Promise.allSettled(revoke(exchange.id))
    const isFinal = exchange.query.get('final') === 'y'
    if (exchange.id !== '' && isFinal) store.forbid(exchange.id)
    const knowsLoss = isFinal ? exchange.query.get('lost') === 'y' : undefined
    if (exchange.id === '') await store.removeAll(removeMs)
    else await store.remove(exchange.id, removeMs, knowsLoss)
    for (const result of await revoking) if (result.status === 'rejected') throw result.reason
    exchange.send(204)
  }

  /** A revocation holds at once; what cannot be saved must not keep the ticket from being removed. */
  const revoke = (id: string): Promise<void>[] =>
    store
      .list()
      .filter(({ isSigned, definition }) => isSigned && (id === '' || id === definition.id))
      .map(async ({ definition }) => options.revoke?.(definition.transferId))

  const list = (exchange: Exchange): void => {
    exchange.sendJson(store.list().map(summary))
  }

  return [
    { path: '/tickets/:id', methods: { GET: get, PUT: put, PATCH: patch, DELETE: remove } },
    { path: '/tickets', methods: { GET: list } },
  ]
}

/** An entry of the list: for people, so without the secret and with what they would compute. */
function summary(ticket: Ticket): Record<string, unknown> {
  return {
    ...ticket.info(),
    url: withoutSecret(ticket.definition.url),
    uuid: ticket.isSigned ? ticket.definition.id : shortId(ticket.definition.id),
    transfer_id: logFields(ticket.definition).transfer,
    moved: ticket.moved,
    seconds_left: Math.max(0, Math.floor(ticket.secondsLeft)),
  }
}

/** At a proxy the URL ends with the daemon's ticket, which may be a token. */
function withoutSecret(url: string): string {
  return url.replace(
    /^(https?:\/\/.*\/)([^/]+)$/i,
    (_, place: string, id: string) => place + shortId(id),
  )
}

function requireId(exchange: Exchange): void {
  if (exchange.id === '') throw new BadRequestError('the path has no ticket id')
}
