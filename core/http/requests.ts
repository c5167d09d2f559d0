/**
 * The requests of one listener: each is looked at, goes to its route or is refused, and leaves its
 * connection as the next one needs it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Server } from 'node:http2'
import type http from 'node:http'
import type { Socket } from 'node:net'
import type { Logger } from '../log.js'
import type { Connection } from './connection.js'
import type { Connections } from './connections.js'
import { replyError } from './error-reply.js'
import { FramingError, MethodNotAllowedError } from './errors.js'
import { Exchange, type Request, type Response } from './exchange.js'
import { checkFraming, isHttp1 } from './framing.js'
import { answerMalformed, refuseConnect } from './malformed.js'
import { METHODS } from './methods.js'
import { createRouter, type Route, type Router } from './routes.js'
import { idOf } from './target.js'
import type { WatchOptions } from './watch.js'

export interface RequestsOptions {
  readonly service: string
  readonly connections: Connections
  /** HTTP/1.1 without Host is refused (RFC 9112, 3.2). */
  readonly requireHost: boolean
  /** How long bodies may take while nobody knows the client. */
  readonly watch: WatchOptions
  readonly logger: Logger
}

export class Requests {
  readonly #options: RequestsOptions
  readonly #exchanges = new WeakMap<object, Exchange>()
  #router: Router | undefined

  constructor(options: RequestsOptions) {
    this.#options = options
  }

  /** Before the first request. */
  async route(routes: readonly Route[]): Promise<void> {
    this.#router = await createRouter(routes, this.#makeExchange, this.#options.logger)
  }

  async close(): Promise<void> {
    await this.#router?.close()
  }

  serveH1(server: http.Server): void {
    const { connections } = this.#options
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      const connection = connections.of(request.socket)
      connection?.enqueue(() => this.#contain(connection, request, response))
    }
    server.on('request', onRequest)
    server.on('checkContinue', onRequest)
    server.on('checkExpectation', onRequest) // other expectations are ignored
    server.on('connect', (request: IncomingMessage) => {
      const connection = connections.of(request.socket)
      if (connection !== undefined) refuseConnect(request, connection)
    })
    server.on('clientError', (error: Error, socket: Socket) => {
      answerMalformed(error, socket, connections.of(socket), (request) =>
        this.#exchanges.get(request),
      )
    })
  }

  serveH2(server: Http2Server): void {
    const onRequest = (request: Request, response: Response): void => {
      const connection = isHttp1(request)
        ? undefined
        : this.#options.connections.of(request.stream.session ?? request)
      if (connection === undefined || connection.isClosing) return
      void this.#contain(connection, request, response)
    }
    server.on('request', onRequest)
    server.on('checkContinue', onRequest)
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
    connection.begin(request.method)
    this.#options.connections.assign(request, connection)
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
    const { connections, watch, logger, service } = this.#options
    const connection = connections.of(request)
    if (connection === undefined) throw new Error('a request without its connection')
    const exchange = new Exchange({
      request,
      response: raw.res as Response,
      connection,
      logger,
      service,
      watch,
      id: parameter === undefined ? '' : idOf(parameter),
    })
    this.#exchanges.set(request, exchange)
    const { broken } = connection
    if (broken?.request === request && broken.held !== undefined) exchange.cutBody(broken.held)
    return exchange
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
