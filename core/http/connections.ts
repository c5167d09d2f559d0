/**
 * The connections of one listener: who is let in, which there are, which were idle for too long, and how
 * all of them end.
 */
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { Logger } from '../log.js'
import type { Admission } from './admission.js'
import { Connection } from './connection.js'
import type { FrontConnection } from './front.js'

export interface ConnectionsOptions {
  readonly service: string
  readonly admission: Admission
  readonly logger: Logger
  readonly idleTimeoutMs: number
  /** Decides on the peer of a Unix socket. */
  readonly mayConnect?: ((socket: Socket) => boolean) | undefined
  /** See HttpServerOptions. */
  readonly isPolled?: boolean | undefined
}

/** How often idle connections are looked for. */
const SWEEP_MS = 500

export class Connections {
  readonly #options: ConnectionsOptions
  /** Also those whose TLS handshake is not finished, which are no connections yet. */
  readonly #sockets = new Set<Socket>()
  readonly #connections = new Set<Connection>()
  readonly #bySource = new WeakMap<object, Connection>()
  readonly #fronted = new WeakMap<Socket, FrontConnection>()
  readonly #sweep: NodeJS.Timeout
  #isStopping = false
  /** Called whenever a socket has closed. */
  onEnded: () => void = () => undefined

  constructor(options: ConnectionsOptions) {
    this.#options = options
    this.#sweep = setInterval(() => this.#closeIdle(), SWEEP_MS).unref()
  }

  /** Sockets that were let in here, not by the front. */
  get size(): number {
    return this.#sockets.size
  }

  [Symbol.iterator](): Iterator<Connection> {
    return this.#connections.values()
  }

  /** The connection of a socket, session or request. */
  of(source: object): Connection | undefined {
    return this.#bySource.get(source)
  }

  /** The request came on this connection. */
  assign(request: object, connection: Connection): void {
    this.#bySource.set(request, connection)
  }

  /** A function that gives the connection's place back, or undefined when there is none. */
  enter(peer: string | undefined): (() => void) | undefined {
    const { admission, logger, service } = this.#options
    const address = plainAddress(peer)
    const leave = this.#isStopping ? undefined : admission.enter(address)
    if (leave === undefined) {
      const reason = 'too many connections'
      logger.warn({ service, client: address, reason }, 'connection refused')
    }
    return leave
  }

  /** The front has let this socket's client in. */
  relay(socket: Socket, front: FrontConnection): void {
    this.#fronted.set(socket, front)
  }

  /** Whether this socket may stay; else it is closed. */
  admit(socket: Socket): boolean {
    const { logger, service, mayConnect = () => true } = this.#options
    if (this.#fronted.has(socket)) return true
    const leave = this.enter(socket.remoteAddress)
    if (leave !== undefined && mayConnect(socket)) {
      this.#sockets.add(socket)
      socket.once('close', () => {
        this.#sockets.delete(socket)
        leave()
        this.onEnded()
      })
      return true
    }
    if (leave !== undefined) {
      const client = plainAddress(socket.remoteAddress)
      const reason = 'this peer may not connect'
      logger.warn({ service, client, reason }, 'connection refused')
      leave()
    }
    socket.destroy()
    return false
  }

  /** A connection begins: of HTTP/1.1 on a socket, of HTTP/2 with a session on it. */
  track(socket: Socket, session?: ServerHttp2Session): Connection {
    const front = this.#fronted.get(socket)
    const peer = front === undefined ? socket.remoteAddress : front.address
    const connection = new Connection(socket, plainAddress(peer), {
      idleLimitMs: this.#options.idleTimeoutMs,
      front,
      ...(session === undefined ? {} : { session }),
    })
    this.#connections.add(connection)
    this.#bySource.set(session ?? socket, connection)
    const { id, address, protocol } = connection
    const { logger, service, isPolled = false } = this.#options
    const facts = { service, connection: id, client: address, protocol }
    logger[isPolled ? 'debug' : 'info'](facts, 'connection opened')
    if (this.#isStopping) connection.shutDown()
    return connection
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection)
    const { logger, service, isPolled = false } = this.#options
    const { id, address, requests, bytesSent, bytesReceived, openedAt } = connection
    const ms = Math.round(performance.now() - openedAt)
    const facts = { requests, sent: bytesSent, received: bytesReceived, ms }
    // One without any request is no look either.
    const isLook = isPolled && requests > 0 && connection.changes === 0
    const level = isLook ? 'debug' : 'info'
    logger[level]({ service, connection: id, client: address, ...facts }, 'connection closed')
    connection.closed().catch((error: unknown) => {
      logger.error({ connection: id, err: error }, 'closing what a connection used failed')
    })
  }

  /** Nobody enters any more; each connection ends after the request it serves. */
  stop(): void {
    this.#isStopping = true
    for (const connection of this.#connections) connection.shutDown()
  }

  cutAll(): void {
    for (const connection of this.#connections) connection.cut()
    for (const socket of this.#sockets) socket.destroy()
  }

  /** When none is left. */
  release(): void {
    clearInterval(this.#sweep)
  }

  #closeIdle(): void {
    for (const connection of this.#connections) {
      if (connection.isIdleTooLong) connection.drop()
      else connection.checkPeer()
    }
  }
}

export function plainAddress(address: string | undefined): string {
  return address === undefined ? 'local' : address.replace(/^::ffff:/, '')
}
