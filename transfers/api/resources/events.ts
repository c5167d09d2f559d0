/** Changes of a transfer as server-sent events, so that nobody polls. */
import { answers, found, IdParams, textOf, type Context } from '../context.js'
import { Feed } from './feed.js'

export function eventRoutes({ app, settings, streams }: Context): void {
  const { service, clock } = settings
  app.route({
    method: 'GET',
    url: '/imagetransfers/:id/events',
    exposeHeadRoute: false,
    config: { isStream: true },
    schema: {
      summary: 'Changes of a transfer, as they happen',
      description:
        'Server-sent events (`text/event-stream`). Each `transfer` has JSON with `phase`, ' +
        '`transferred` and `size` in bytes, `rate` in bytes per second (0 when nothing moves for ' +
        'three looks), `active`, and after a failure `description`; the first comes at once, others ' +
        'when one of these is another. `end` is the last, when the transfer is gone. Lines that begin with a ' +
        'colon only show that the connection lives.',
      params: IdParams,
      response: {
        ...answers({}, 404),
        200: textOf('text/event-stream', 'Events'),
      },
    },
    handler: async (request, reply) => {
      const { id } = request.params
      const first = found('image transfer', await service.transfer(id))
      const leave = streams.enter(request.ip)
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
      const { heartbeatMs, maxStreamMs, stillMs } = streams.limits
      const feed = new Feed(raw, clock, stillMs)
      feed.send(first)
      const watched = { hasTold: false }
      const unwatch = service.watch(id, (transfer) => {
        watched.hasTold = true
        feed.send(transfer)
      })
      const end = (): void => void raw.end()
      const beat = setInterval(() => feed.beat(), heartbeatMs)
      const limit = setTimeout(end, maxStreamMs)
      streams.closing.addEventListener('abort', end)
      raw.once('close', () => {
        unwatch()
        feed.stop()
        clearInterval(beat)
        clearTimeout(limit)
        streams.closing.removeEventListener('abort', end)
        leave()
      })
      // What happened before the watch began.
      const second = await service.transfer(id)
      if (!watched.hasTold) feed.send(second)
    },
  })
}
