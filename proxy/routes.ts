/** The images service of the proxy: the daemon's, seen from outside. */
import type { Exchange } from '../core/http/exchange.js'
import type { Handler, Route } from '../core/http/routes.js'
import { allowCrossOrigin, preflight } from '../core/images/cors.js'
import { closeWhenDenied } from '../core/images/ticket.js'
import { relayDownload } from './download.js'
import { relayAlgorithms, relayChecksum, relayExtents, relayPatch } from './inspect.js'
import { relayOptions } from './options.js'
import type { RelayServices } from './relay.js'
import { relayUpload } from './upload.js'

type RelayHandler = (exchange: Exchange, services: RelayServices) => Promise<void>

export function relayRoutes(services: RelayServices): Route[] {
  const relay =
    (handler: RelayHandler): Handler =>
    (exchange) =>
      closeWhenDenied(exchange, handler(exchange, services))
  const get = (handler: RelayHandler) => ({
    GET: relay(handler),
    HEAD: relay(handler),
    OPTIONS: preflight,
  })
  return [
    {
      path: '/images/:id',
      prepare: allowCrossOrigin,
      methods: {
        GET: relay(relayDownload),
        HEAD: relay(relayDownload),
        PUT: relay(relayUpload),
        PATCH: relay(relayPatch),
        OPTIONS: relay(relayOptions),
      },
    },
    { path: '/images/:id/extents', prepare: allowCrossOrigin, methods: get(relayExtents) },
    { path: '/images/:id/checksum', prepare: allowCrossOrigin, methods: get(relayChecksum) },
    {
      path: '/images/:id/checksum/algorithms',
      prepare: allowCrossOrigin,
      methods: get(relayAlgorithms),
    },
  ]
}
