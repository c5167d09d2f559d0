/**
 * An HTTP server for one listener: TLS or plain, TCP or Unix socket, HTTP/1.1 and, behind TLS, HTTP/2.
 * Node's own timeouts are set on purpose, as its defaults would break long transfers.
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import http2, { type Http2Server, type ServerHttp2Session } from 'node:http2'
import https from 'node:https'
import net, { type AddressInfo, type Socket } from 'node:net'
import { TLSSocket, type SecureContextOptions } from 'node:tls'
import type { Transport } from '../../native/transport.js'
import type { Logger } from '../log.js'
import type { Admission } from './admission.js'
import { Connection } from './connection.js'
import { replyError } from './error-reply.js'
import { FramingError, MethodNotAllowedError } from './errors.js'
import { Exchange, type Request, type Response } from './exchange.js'
import { checkFraming, isHttp1, MAX_FIELDS, MAX_HEAD, PARSER_MAX_HEAD } from './framing.js'
import { Front, type FrontConnection } from './front.js'
import { linger } from './linger.js'
import { answerMalformed, refuseConnect } from './malformed.js'
import { METHODS } from './methods.js'
import { createRouter, type Route, type Router } from './routes.js'
import { idOf } from './target.js'
import { tlsOptions, type TlsMaterial } from './tls.js'

export interface ServerLimits {
  /** Seconds. */
  readonly headerTimeout: number
  readonly handshakeTimeout: number
  readonly idleTimeout: number
  /** Bytes per second. */
  readonly minBodyRate: number
}

export interface HttpServerOptions {
  /** 'remote', 'local', 'control': for the log. */
  readonly service: string
  readonly routes: readonly Route[]
  /** HTTP/1.1 without Host is refused (RFC 9112, 3.2). */
  readonly requireHost: boolean
  readonly tls?: TlsMaterial
  /** With tls: clients need a certificate of `clientCa`, and this decides on them. */
  readonly isWelcomeClient?: (socket: TLSSocket) => boolean
  readonly limits: ServerLimits
  readonly admission: Admission
  readonly logger: Logger
  /** Decides on the peer of a Unix socket. */
  readonly mayConnect?: (socket: Socket) => boolean
  /** The native front accepts connections and relays (docs/transport.md). */
  readonly transport?: Transport
}

export type ListenAddress =
  { readonly path: string } | { readonly host: string; readonly port: number }

/** How often idle connections are looked for. */
const SWEEP_MS = 500
/** How often Node looks for requests whose header does not end. */
const HEADER_CHECK_MS = 1000
/** Connections that may wait for accept(2). */
const BACKLOG = 511
const STREAMS_PER_SESSION = 16

export class HttpServer {
  readonly #options: HttpServerOptions
  readonly #server: http.Server | https.Server
  readonly #h2: Http2Server
  readonly #front: Front | undefined
  #relayed: http.Server | undefined
  readonly #fronted = new WeakMap<Socket, FrontConnection>()
  /** Also those whose TLS handshake is not finished, which are no connections yet. */
  readonly #sockets = new Set<Socket>()
  readonly #connections = new Set<Connection>()
  readonly #bySource = new WeakMap<object, Connection>()
  readonly #exchanges = new WeakMap<object, Exchange>()
  readonly #sweep: NodeJS.Timeout
  #router: Router | undefined
  #clientCa: Buffer | undefined
  #isStopping = false
  #onEnded: () => void = () => undefined

  constructor(options: HttpServerOptions) {
    this.#options = options
    this.#h2 = this.#createH2()
    this.#server = this.#createH1(options.tls)
    this.#front = options.transport && this.#createFront(options.transport)
    this.#sweep = setInterval(() => this.#closeIdle(), SWEEP_MS).unref()
  }

  /** Binds and listens. Rejects with the system's error. */
  async listen(address: ListenAddress): Promise<void> {
    const { routes, logger, service } = this.#options
    this.#router = await createRouter(routes, this.#makeExchange, logger)
    if (this.#front !== undefined) {
      await this.#front.listen('path' in address ? address : { ...address })
      return
    }
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ ...address, backlog: BACKLOG }, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
    this.#server.on('error', (error) => logger.error({ service, err: error }, 'listener failed'))
  }

  /** Where it listens; for a Unix socket its name. */
  get address(): AddressInfo | string {
    const address = this.#front?.address ?? this.#server.address()
    if (address === null) throw new Error('the server does not listen')
    return address
  }

  /** New connections get the new certificate, existing ones keep theirs. */
  replaceCertificate(material: TlsMaterial): void {
    if (this.#server instanceof https.Server) {
      this.#server.setSecureContext(this.#tlsOptions(material))
      this.#front?.replaceCertificate(material)
    }
  }

  /** `isWelcomeClient` has changed its mind: who is not any more is served no further request. */
  reviewClients(): void {
    const { isWelcomeClient, logger, service } = this.#options
    for (const connection of this.#connections) {
      const { socket } = connection
      if (!(socket instanceof TLSSocket) || isWelcomeClient?.(socket) !== false) continue
      const { id, address } = connection
      logger.warn({ service, connection: id, client: address }, 'client not in the list any more')
      connection.shutDown()
    }
  }

  /**
   * Stops accepting; each connection ends after the request it serves. Resolves when all have ended,
   * or when `graceMs` have passed and the rest was cut.
   */
  async close(graceMs: number): Promise<void> {
    this.#isStopping = true
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    const ended = this.#front === undefined ? closed : this.#ended(this.#front)
    const timer = setTimeout(() => this.#cutAll(), graceMs)
    for (const connection of this.#connections) connection.shutDown()
    await ended
    clearTimeout(timer)
    clearInterval(this.#sweep)
    await this.#router?.close()
  }

  #cutAll(): void {
    for (const connection of this.#connections) connection.cut()
    this.#front?.cutAll()
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Accepts no more; resolves when nothing is left that was accepted. */
  async #ended(front: Front): Promise<void> {
    front.stopListening()
    this.#relayed?.close()
    const isEnded = (): boolean => front.size === 0 && this.#sockets.size === 0
    while (!isEnded()) await new Promise<void>((resolve) => (this.#onEnded = resolve))
  }

  /**
   * Two servers behind one listener: what the front relays is plain HTTP/1.1, what it leaves alone is
   * served as without it.
   */
  #createFront(transport: Transport): Front {
    const { tls, limits } = this.#options
    const relayed = tls === undefined ? this.#server : this.#createH1(undefined)
    this.#relayed = relayed
    // A server looks for headers that do not end only when it listens.
    for (const server of new Set([relayed, this.#server])) server.emit('listening')
    return new Front({
      transport,
      ...(tls === undefined ? {} : { tls }),
      handshakeTimeoutMs: limits.handshakeTimeout * 1000,
      enter: (address) => this.#enter(plainAddress(address)),
      opened: (socket, connection) => {
        this.#fronted.set(socket, connection)
        relayed.emit('connection', socket)
      },
      foreign: (socket) => void this.#server.emit('connection', socket),
      handshakeFailed: (reason) => this.#handshakeFailed(reason),
      closed: () => this.#onEnded(),
    })
  }

  #createH1(tls: TlsMaterial | undefined): http.Server | https.Server {
    const { limits, isWelcomeClient } = this.#options
    const options: http.ServerOptions = {
      requireHostHeader: false, // checkFraming knows where it is required
      requestTimeout: 0, // default 300 s for a whole request: an upload takes hours
      headersTimeout: limits.headerTimeout * 1000,
      connectionsCheckingInterval: HEADER_CHECK_MS,
      keepAliveTimeout: 0, // default 5 s; the sweep closes by the ticket's inactivity timeout
      maxHeaderSize: PARSER_MAX_HEAD, // checkFraming refuses less, and knows by which limit
      noDelay: true,
    }
    const server =
      tls === undefined
        ? http.createServer(options)
        : https.createServer({
            ...options,
            ...this.#tlsOptions(tls),
            // Node's default for the second is to refuse; here it is what everything depends on.
            requestCert: isWelcomeClient !== undefined,
            rejectUnauthorized: isWelcomeClient !== undefined,
            ALPNProtocols: ['http/1.1', 'h2'], // a client offering both gets the faster one
            handshakeTimeout: limits.handshakeTimeout * 1000,
          })
    server.timeout = 0
    allowHalfOpen(server)
    server.maxHeadersCount = 0 // default drops the fields after 2000 silently; checkFraming refuses
    server.maxRequestsPerSocket = 0
    interpose(server, 'connection', (socket) => this.#admit(socket))
    if (tls === undefined) {
      server.on('connection', (socket: Socket) => this.#opened(socket))
    } else {
      interpose(server, 'secureConnection', (socket) => {
        if (isWelcomeClient?.(socket) === false) return this.#refuseClient(socket)
        const isH2 = socket.alpnProtocol === 'h2'
        if (isH2) this.#startSession(socket)
        else this.#opened(socket)
        return !isH2
      })
      server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
        this.#handshakeFailed(error.code)
        socket.destroy()
      })
    }
    return this.#serveH1(server)
  }

  #handshakeFailed(reason: string | undefined): void {
    this.#options.logger.debug({ reason }, 'TLS handshake failed')
  }

  #serveH1(server: http.Server): http.Server {
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      const connection = this.#bySource.get(request.socket)
      if (connection === undefined || connection.isClosing) return
      connection.enqueue(() => this.#contain(connection, request, response))
    }
    server.on('request', onRequest)
    server.on('checkContinue', onRequest)
    server.on('checkExpectation', onRequest) // other expectations are ignored
    server.on('connect', (request: IncomingMessage) => {
      const connection = this.#bySource.get(request.socket)
      if (connection !== undefined) refuseConnect(request, connection)
    })
    server.on('clientError', (error: Error, socket: Socket) => {
      answerMalformed(error, socket, this.#bySource.get(socket), (request) =>
        this.#exchanges.get(request),
      )
    })
    return server
  }

  #createH2(): Http2Server {
    const server = http2.createServer({
      settings: {
        maxConcurrentStreams: STREAMS_PER_SESSION,
        maxHeaderListSize: MAX_HEAD,
        enableConnectProtocol: false,
      },
      maxHeaderListPairs: MAX_FIELDS + 4 + 1, // four pseudo fields; one more shows there are too many
    })
    const onRequest = (request: Request, response: Response): void => {
      const connection = isHttp1(request)
        ? undefined
        : this.#bySource.get(request.stream.session ?? request)
      if (connection === undefined || connection.isClosing) return
      void this.#contain(connection, request, response)
    }
    server.on('request', onRequest)
    server.on('checkContinue', onRequest)
    server.on('sessionError', () => undefined) // the session's 'close' follows
    return server
  }

  #admit(socket: Socket): boolean {
    const { logger, service, mayConnect = () => true } = this.#options
    if (this.#fronted.has(socket)) return true
    const address = plainAddress(socket.remoteAddress)
    const leave = this.#enter(address)
    if (leave !== undefined && mayConnect(socket)) {
      this.#sockets.add(socket)
      socket.once('close', () => {
        this.#sockets.delete(socket)
        leave()
        this.#onEnded()
      })
      return true
    }
    if (leave !== undefined) {
      const reason = 'this peer may not connect'
      logger.warn({ service, client: address, reason }, 'connection refused')
      leave()
    }
    socket.destroy()
    return false
  }

  /** A function that gives the connection's place back, or undefined when there is none. */
  #enter(address: string): (() => void) | undefined {
    const { admission, logger, service } = this.#options
    const leave = this.#isStopping ? undefined : admission.enter(address)
    if (leave === undefined) {
      const reason = 'too many connections'
      logger.warn({ service, client: address, reason }, 'connection refused')
    }
    return leave
  }

  #refuseClient(socket: TLSSocket): false {
    const { logger, service } = this.#options
    const { CN: name } = socket.getPeerCertificate().subject
    const client = plainAddress(socket.remoteAddress)
    logger.warn({ service, client, name, reason: 'not in the list' }, 'connection refused')
    socket.destroy()
    return false
  }

  /** Without an authority of its own Node would believe every public one. */
  #tlsOptions(material: TlsMaterial): SecureContextOptions {
    if (this.#options.isWelcomeClient === undefined) return tlsOptions(material)
    this.#clientCa = material.clientCa ?? this.#clientCa
    if (this.#clientCa === undefined) throw new Error('no authority for certificates of clients')
    return { ...tlsOptions(material), ca: this.#clientCa }
  }

  #opened(socket: Socket): void {
    const connection = this.#track(socket, socket, undefined)
    linger(socket, () => connection.isClosing)
    socket.on('error', () => undefined) // 'close' follows
    socket.once('close', () => this.#closed(connection))
  }

  /** The socket tells reliably when a connection is over, the session does not. */
  #startSession(socket: TLSSocket): void {
    const onSession = (session: ServerHttp2Session): void => {
      const connection = this.#track(session, socket, session)
      session.on('error', () => undefined) // 'close' follows
      session.once('close', () => socket.destroy())
      socket.once('close', () => {
        session.destroy()
        this.#closed(connection)
      })
    }
    this.#h2.once('session', onSession)
    this.#h2.emit('connection', socket)
    this.#h2.off('session', onSession)
  }

  #track(key: object, socket: Socket, session: ServerHttp2Session | undefined): Connection {
    const front = this.#fronted.get(socket)
    const peer = front === undefined ? socket.remoteAddress : front.address
    const connection = new Connection(socket, plainAddress(peer), {
      idleLimitMs: this.#options.limits.idleTimeout * 1000,
      front,
      ...(session === undefined ? {} : { session }),
    })
    this.#connections.add(connection)
    this.#bySource.set(key, connection)
    const { id, address, protocol } = connection
    const { logger, service } = this.#options
    logger.info({ service, connection: id, client: address, protocol }, 'connection opened')
    if (this.#isStopping) connection.shutDown()
    return connection
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection)
    const { logger, service } = this.#options
    const { id, address, requests, bytesSent, bytesReceived, openedAt } = connection
    const ms = Math.round(performance.now() - openedAt)
    const facts = { requests, sent: bytesSent, received: bytesReceived, ms }
    logger.info({ service, connection: id, client: address, ...facts }, 'connection closed')
    connection.closed().catch((error: unknown) => {
      logger.error({ connection: id, err: error }, 'closing what a connection used failed')
    })
  }

  /** What goes wrong with one connection is no reason to end all others. */
  async #contain(connection: Connection, request: Request, response: Response): Promise<void> {
    try {
      await this.#serve(connection, request, response)
    } catch (error) {
      const { logger, service } = this.#options
      logger.error({ service, connection: connection.id, err: error }, 'serving a request failed')
      connection.cut()
    }
  }

  /** Settles when the response is complete or the connection gone. */
  async #serve(connection: Connection, request: Request, response: Response): Promise<void> {
    const isBroken = connection.broken?.request === request
    if (connection.gone.aborted || (connection.isClosing && !isBroken)) return
    connection.begin()
    this.#bySource.set(request, connection)
    const closed = new Promise<void>((resolve) => response.once('close', () => resolve()))
    const wrong = checkFraming(request, this.#options.requireHost) ?? checkMethod(request)
    if (wrong === undefined) {
      delete request.headers['content-type'] // no route cares, and fastify would
      this.#router?.handle(request as IncomingMessage, response as ServerResponse)
    } else {
      const exchange = this.#makeExchange({ req: request, res: response })
      if (wrong instanceof FramingError) exchange.closeAfter()
      replyError(exchange, wrong)
    }
    // Before Node's own listener, which throws away what nobody has read.
    const keepBody = (): void => this.#exchanges.get(request)?.keepBody()
    if (isHttp1(request)) connection.socket.prependListener('close', keepBody)
    await closed
    if (isHttp1(request)) connection.socket.off('close', keepBody)
    connection.end()
    endIfClosing(connection)
  }

  readonly #makeExchange = (raw: { req: object; res: object }, parameter?: string): Exchange => {
    const request = raw.req as Request
    const connection = this.#bySource.get(request)
    if (connection === undefined) throw new Error('a request without its connection')
    const { limits, logger, service } = this.#options
    const exchange = new Exchange({
      request,
      response: raw.res as Response,
      connection,
      logger,
      service,
      watch: { inactivityMs: limits.idleTimeout * 1000, minRate: limits.minBodyRate },
      id: parameter === undefined ? '' : idOf(parameter),
    })
    this.#exchanges.set(request, exchange)
    const { broken } = connection
    if (broken?.request === request && broken.held !== undefined) exchange.cutBody(broken.held)
    return exchange
  }

  #closeIdle(): void {
    for (const connection of this.#connections) {
      if (connection.isIdleTooLong) connection.drop()
      else connection.checkPeer()
    }
  }
}

/** Fastify answers methods it does not know by itself. */
function checkMethod({ method }: Request): MethodNotAllowedError | undefined {
  return METHODS.some((known) => known === method) ? undefined : new MethodNotAllowedError(METHODS)
}

/** A response has said that the connection ends with it. */
function endIfClosing(connection: Connection): void {
  if (connection.isClosing) connection.shutDown()
}

/**
 * A client that has sent its request and closed its sending side (`nc -N`) still gets the answer. Node
 * has kept this property since version 0.5, undocumented.
 */
function allowHalfOpen(server: http.Server & { httpAllowHalfOpen?: boolean }): void {
  server.httpAllowHalfOpen = true
}

/** Puts `decide` before the listeners Node has installed: they run only when it returns true. */
function interpose(
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

function plainAddress(address: string | undefined): string {
  return address === undefined ? 'local' : address.replace(/^::ffff:/, '')
}
