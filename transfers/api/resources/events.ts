/**
 * Changes of a transfer as server-sent events, so that nobody polls. A client that reads slowly misses
 * what is older than the newest; nothing queues up.
 */
import type { ServerResponse } from 'node:http'
import { FaultError } from '../../fault.js'
import type { TransferView } from '../../model.js'
import { found, IdParams, type Context } from '../context.js'
import { reasonOf } from '../entities/transfer.js'

export function eventRoutes({ app, settings, streams }: Context): void {
  const { service, now } = settings
  app.route({
    method: 'GET',
    url: '/imagetransfers/:id/events',
    exposeHeadRoute: false,
    config: { isStream: true },
    schema: {
      summary: 'Changes of a transfer, as they happen',
      description:
        'Server-sent events (`text/event-stream`). Each `transfer` has JSON with `phase`, ' +
        '`transferred` and `size` in bytes, `rate` in bytes per second, `active`, and after a ' +
        'failure `description`; the first comes at once. `end` is the last, when the transfer is gone. Lines that begin with a ' +
        'colon only show that the connection lives.',
      params: IdParams,
    },
    handler: async (request, reply) => {
      const { id } = request.params
      const first = found('image transfer', await service.transfer(id))
      const leave = streams.enter()
      if (leave === undefined) {
        throw new FaultError(503, 'Operation Failed', 'Too many clients listen; poll instead')
      }
      reply.hijack()
      const { raw } = reply
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        connection: 'close',
        // nginx keeps answers back until it has some KiB of them.
        'x-accel-buffering': 'no',
      })
      const { heartbeatMs, maxStreamMs } = streams.limits
      const feed = new Feed(raw, now)
      feed.send(first)
      const unwatch = service.watch(id, (transfer) => feed.send(transfer))
      const end = (): void => void raw.end()
      const beat = setInterval(() => feed.beat(), heartbeatMs)
      const limit = setTimeout(end, maxStreamMs)
      streams.closing.addEventListener('abort', end)
      raw.once('close', () => {
        unwatch()
        clearInterval(beat)
        clearTimeout(limit)
        streams.closing.removeEventListener('abort', end)
        leave()
      })
      // What happened before the watch began.
      if ((await service.transfer(id)) === undefined) feed.send(undefined)
    },
  })
}

class Feed {
  readonly #raw: ServerResponse
  readonly #now: () => number
  #last: { readonly transferred: number; readonly at: number } | undefined
  #rate = 0
  /** The newest that has not been sent. */
  #held: { readonly transfer: TransferView | undefined } | undefined

  constructor(raw: ServerResponse, now: () => number) {
    this.#raw = raw
    this.#now = now
    raw.on('drain', () => {
      const held = this.#held
      this.#held = undefined
      if (held !== undefined) this.send(held.transfer)
    })
    raw.on('error', () => undefined) // 'close' follows
  }

  send(transfer: TransferView | undefined): void {
    if (this.#raw.writableEnded || this.#raw.destroyed) return
    if (this.#raw.writableNeedDrain) {
      this.#held = { transfer }
      return
    }
    if (transfer === undefined) {
      this.#raw.end('event: end\ndata: {}\n\n')
      return
    }
    const { phase, transferred, size, isActive } = transfer
    const rate = this.#rateOf(transferred)
    const description = reasonOf(transfer)
    const data = JSON.stringify({ phase, transferred, size, rate, active: isActive, description })
    this.#raw.write(`event: transfer\ndata: ${data}\n\n`)
  }

  beat(): void {
    if (!this.#raw.writableNeedDrain && !this.#raw.writableEnded) this.#raw.write(': alive\n\n')
  }

  /** Since the amount last changed: other changes say nothing about it. */
  #rateOf(transferred: number): number {
    const at = this.#now()
    const last = this.#last
    if (last === undefined) this.#last = { transferred, at }
    if (last === undefined || transferred === last.transferred || at <= last.at) return this.#rate
    this.#rate = Math.max(0, Math.round(((transferred - last.transferred) * 1000) / (at - last.at)))
    this.#last = { transferred, at }
    return this.#rate
  }
}
