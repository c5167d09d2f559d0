/** The socket side: TLS or plain, expectations, time limits, how many may connect. */
import type { IncomingMessage, RequestListener, Server, ServerOptions } from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { Admission } from '../../core/http/admission.js'
import { linger } from '../../core/http/linger.js'
import { createServer as createPlainServer } from '../../core/http/node-http.js'
import { tlsOptions, type TlsMaterial } from '../../core/http/tls.js'
import { Crowd } from './crowd.js'
import { refuseConnect } from './malformed.js'
import type { ApiSettings } from './options.js'

/** A head, and a whole request of at most 1 MiB. */
const HEAD_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 60_000
/** Clients poll each second, or wait for a minute. */
const KEEP_ALIVE_MS = 75_000

export function createServer(settings: ApiSettings, served: RequestListener): Server {
  const { tls, maxConnections, maxConnectionsPerAddress, handshakeTimeoutMs } = settings
  const crowd = new Crowd(settings.clock, settings.logger)
  const handler = crowd.refusing(served)
  const options: ServerOptions = {
    requireHostHeader: false, // checkHost says what is missing
    headersTimeout: HEAD_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 1000,
    noDelay: true,
  }
  const server =
    tls === undefined
      ? createPlainServer(options, handler)
      : https.createServer(
          { ...options, ...tlsOptions(tls), handshakeTimeout: handshakeTimeoutMs },
          handler,
        )
  server.on('connect', (request: IncomingMessage, socket: Socket) => refuseConnect(request, socket))
  // Node's own answer to expectations other than 100-continue is a refusal.
  server.on('checkExpectation', handler)
  const admission = new Admission({ maxConnections, maxConnectionsPerAddress })
  server.on('connection', (socket: Socket) => {
    const leave = admission.enter(socket.remoteAddress ?? '')
    if (leave === undefined) crowd.add(socket)
    else socket.once('close', leave)
  })
  server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    linger(socket, () => true)
  })
  return server
}

/** New connections get the new certificate, existing ones keep theirs. */
export function replaceCertificate(server: unknown, material: TlsMaterial): void {
  if (server instanceof https.Server) server.setSecureContext(tlsOptions(material))
}
