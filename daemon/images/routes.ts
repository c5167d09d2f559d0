/** The images service. */
import type { Exchange } from '../../core/http/exchange.js'
import type { Handler, Route } from '../../core/http/routes.js'
import { VERSION } from '../../core/http/version.js'
import { ServiceError } from '../../core/errors.js'
import { getChecksum, listAlgorithms } from './checksum.js'
import { allowCrossOrigin } from './cors.js'
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

/** Remote service only. The portal tests its connection here. */
export const infoRoute: Route = {
  path: '/info/',
  prepare: allowCrossOrigin,
  methods: { GET: sendInfo, HEAD: sendInfo },
}

function sendInfo(exchange: Exchange): void {
  exchange.sendJson({ version: VERSION })
}

/** Says only what browsers ask before a request; the request itself is authorized. */
function preflight(exchange: Exchange): void {
  exchange.send(200, '', { allow: 'OPTIONS,GET,HEAD' })
}

/** A connection whose ticket is no good has nothing left to do (images-api.md, K3). */
async function closeWhenDenied(exchange: Exchange, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (error instanceof ServiceError && error.statusCode === 403) exchange.closeAfter()
    throw error
  }
}
