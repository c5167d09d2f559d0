/** The images service. */
import type { Exchange } from '../../core/http/exchange.js'
import type { Handler, Route } from '../../core/http/routes.js'
import { allowCrossOrigin, preflight } from '../../core/images/cors.js'
import { closeWhenDenied } from '../../core/images/ticket.js'
import { getChecksum, listAlgorithms } from './checksum.js'
import { getExtents } from './extents.js'
import type { ImageServices } from './image.js'
import { imageOptions } from './options.js'
import { patchImage } from './patch.js'
import { getImage } from './read.js'
import { putImage } from './write.js'

type ImageHandler = (exchange: Exchange, services: ImageServices) => Promise<void>

export function imageRoutes(services: ImageServices): Route[] {
  const serve =
    (handler: ImageHandler): Handler =>
    (exchange) =>
      closeWhenDenied(exchange, handler(exchange, services))
  return [
    {
      path: '/images/:id',
      prepare: allowCrossOrigin,
      methods: {
        GET: serve(getImage),
        HEAD: serve(getImage),
        PUT: serve(putImage),
        PATCH: serve(patchImage),
        OPTIONS: serve(imageOptions),
      },
    },
    {
      path: '/images/:id/extents',
      prepare: allowCrossOrigin,
      methods: { GET: serve(getExtents), HEAD: serve(getExtents), OPTIONS: preflight },
    },
    {
      path: '/images/:id/checksum',
      prepare: allowCrossOrigin,
      methods: { GET: serve(getChecksum), HEAD: serve(getChecksum), OPTIONS: preflight },
    },
    {
      path: '/images/:id/checksum/algorithms',
      prepare: allowCrossOrigin,
      methods: { GET: listAlgorithms, HEAD: listAlgorithms, OPTIONS: preflight },
    },
  ]
}
