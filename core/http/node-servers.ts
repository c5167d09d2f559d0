/**
 * Node's own servers as a listener needs them: their timeouts are set on purpose, as the defaults would
 * break long transfers, and what they do by themselves is decided elsewhere.
 */
import type http from 'node:http'
import http2, { type Http2Server } from 'node:http2'
import https from 'node:https'
import type net from 'node:net'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import { MAX_FIELDS, MAX_HEAD, PARSER_MAX_HEAD } from './framing.js'
import { createServer } from './node-http.js'

export interface H1Options {
  readonly headerTimeoutMs: number
  readonly tls?: H1TlsOptions | undefined
}

export interface H1TlsOptions {
  readonly context: SecureContextOptions
  /** Clients need a certificate of `context.ca`. */
  readonly asksForCertificate: boolean
  readonly handshakeTimeoutMs: number
}

/** How often Node looks for requests whose header does not end. */
const HEADER_CHECK_MS = 1000
const STREAMS_PER_SESSION = 16

export function createH1({ headerTimeoutMs, tls }: H1Options): http.Server | https.Server {
  const options: http.ServerOptions = {
    requireHostHeader: false, // checkFraming knows where it is required
    requestTimeout: 0, // default 300 s for a whole request: an upload takes hours
    headersTimeout: headerTimeoutMs,
    connectionsCheckingInterval: HEADER_CHECK_MS,
    keepAliveTimeout: 0, // default 5 s; the sweep closes by the ticket's inactivity timeout
    maxHeaderSize: PARSER_MAX_HEAD, // checkFraming refuses less, and knows by which limit
    noDelay: true,
  }
  const server =
    tls === undefined
      ? createServer(options)
      : https.createServer({
          ...options,
          ...tls.context,
          // Node's default for the second is to refuse; here it is what everything depends on.
          requestCert: tls.asksForCertificate,
          rejectUnauthorized: tls.asksForCertificate,
          ALPNProtocols: ['http/1.1', 'h2'], // a client offering both gets the faster one
          handshakeTimeout: tls.handshakeTimeoutMs,
        })
  server.timeout = 0
  allowHalfOpen(server)
  server.maxHeadersCount = 0 // default drops the fields after 2000 silently; checkFraming refuses
  server.maxRequestsPerSocket = 0
  return server
}

/** Listens nowhere: sessions are begun on sockets that ALPN has made HTTP/2. */
export function createH2(): Http2Server {
  const server = http2.createServer({
    settings: {
      maxConcurrentStreams: STREAMS_PER_SESSION,
      maxHeaderListSize: MAX_HEAD,
      enableConnectProtocol: false,
    },
    maxHeaderListPairs: MAX_FIELDS + 4 + 1, // four pseudo fields; one more shows there are too many
  })
  server.on('sessionError', () => undefined) // the session's 'close' follows
  return server
}

/** Puts `decide` before the listeners Node has installed: they run only when it returns true. */
export function interpose(
  server: net.Server,
  event: string,
  decide: (socket: TLSSocket) => boolean,
): void {
  const listeners = server.listeners(event)
  server.removeAllListeners(event)
  server.on(event, (socket: TLSSocket) => {
    if (!decide(socket)) return
    for (const listener of listeners) Reflect.apply(listener, server, [socket])
  })
}

/**
 * A client that has sent its request and closed its sending side (`nc -N`) still gets the answer. Node
 * has kept this property since version 0.5, undocumented.
 */
function allowHalfOpen(server: http.Server & { httpAllowHalfOpen?: boolean }): void {
  server.httpAllowHalfOpen = true
}
