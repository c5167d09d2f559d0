/** GET /info/: which version this is. Remote service only; the portal tests its connection here. */
import type { Exchange } from '../http/exchange.js'
import type { Route } from '../http/routes.js'
import { VERSION } from '../http/version.js'
import { allowCrossOrigin } from './cors.js'

export const infoRoute: Route = {
  path: '/info/',
  prepare: allowCrossOrigin,
  methods: { GET: sendInfo, HEAD: sendInfo },
}

function sendInfo(exchange: Exchange): void {
  exchange.sendJson({ version: VERSION })
}
