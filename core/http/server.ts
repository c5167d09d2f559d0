/**
 * An HTTP server for one listener: TLS or plain, TCP or Unix socket, HTTP/1.1 and, behind TLS, HTTP/2.
 * Joins Node's servers, or the native front before them, with the listener's connections and requests.
 */
import type http from 'node:http'
import type { Http2Server, ServerHttp2Session } from 'node:http2'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { TLSSocket, type SecureContextOptions } from 'node:tls'
import type { Transport } from '../../native/transport.js'
import type { Logger } from '../log.js'
import type { Admission } from './admission.js'
import { Connections, plainAddress } from './connections.js'
import { Front } from './front.js'
import { linger } from './linger.js'
import { createH1, createH2, interpose } from './node-servers.js'
import { Requests } from './requests.js'
import type { Route } from './routes.js'
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
  /**
   * Others look all the time whether it is there: the log has connections that do no more than that
   * only at debug.
   */
  readonly isPolled?: boolean
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

/** Connections that may wait for accept(2). */
const BACKLOG = 511

export class HttpServer {
  readonly #options: HttpServerOptions
  readonly #connections: Connections
  readonly #requests: Requests
  readonly #server: http.Server | https.Server
  readonly #h2: Http2Server
  readonly #front: Front | undefined
  #relayed: http.Server | undefined
  #clientCa: Buffer | undefined

  constructor(options: HttpServerOptions) {
    const { service, logger, limits, admission, requireHost, mayConnect, isPolled } = options
    const idleTimeoutMs = limits.idleTimeout * 1000
    this.#options = options
    this.#connections = new Connections({
      ...{ service, logger, admission, mayConnect, isPolled },
      idleTimeoutMs,
    })
    this.#requests = new Requests({
      ...{ service, logger, requireHost },
      connections: this.#connections,
      watch: { inactivityMs: idleTimeoutMs, minRate: limits.minBodyRate },
    })
    this.#h2 = createH2()
    this.#requests.serveH2(this.#h2)
    this.#server = this.#createH1(options.tls)
    this.#front = options.transport && this.#createFront(options.transport)
  }

  /** Binds and listens. Rejects with the system's error. */
  async listen(address: ListenAddress): Promise<void> {
    const { routes, logger, service } = this.#options
    await this.#requests.route(routes)
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
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    const timer = setTimeout(() => this.#cutAll(), graceMs)
    this.#connections.stop()
    await (this.#front === undefined ? closed : this.#ended(this.#front))
    clearTimeout(timer)
    this.#connections.release()
    await this.#requests.close()
  }

  #cutAll(): void {
    this.#front?.cutAll()
    this.#connections.cutAll()
  }

  /** Accepts no more; resolves when nothing is left that was accepted. */
  async #ended(front: Front): Promise<void> {
    front.stopListening()
    this.#relayed?.close()
    const isEnded = (): boolean => front.size === 0 && this.#connections.size === 0
    while (!isEnded()) await new Promise<void>((resolve) => (this.#connections.onEnded = resolve))
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
      enter: (address) => this.#connections.enter(address),
      opened: (socket, connection) => {
        this.#connections.relay(socket, connection)
        relayed.emit('connection', socket)
      },
      foreign: (socket) => void this.#server.emit('connection', socket),
      handshakeFailed: (reason) => this.#handshakeFailed(reason),
      closed: () => this.#connections.onEnded(),
    })
  }

  #createH1(tls: TlsMaterial | undefined): http.Server | https.Server {
    const { limits, isWelcomeClient } = this.#options
    const server = createH1({
      headerTimeoutMs: limits.headerTimeout * 1000,
      tls: tls && {
        context: this.#tlsOptions(tls),
        asksForCertificate: isWelcomeClient !== undefined,
        handshakeTimeoutMs: limits.handshakeTimeout * 1000,
      },
    })
    interpose(server, 'connection', (socket) => this.#connections.admit(socket))
    if (tls === undefined) server.on('connection', (socket: Socket) => this.#opened(socket))
    else this.#onSecured(server)
    this.#requests.serveH1(server)
    return server
  }

  /** What TLS has to say before there is a connection. */
  #onSecured(server: http.Server): void {
    interpose(server, 'secureConnection', (socket) => {
      if (this.#options.isWelcomeClient?.(socket) === false) return this.#refuseClient(socket)
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

  #handshakeFailed(reason: string | undefined): void {
    this.#options.logger.debug({ reason }, 'TLS handshake failed')
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
    const connection = this.#connections.track(socket)
    linger(socket, () => connection.isClosing)
    socket.on('error', () => undefined) // 'close' follows
    socket.once('close', () => this.#connections.closed(connection))
  }

  /** The socket tells reliably when a connection is over, the session does not. */
  #startSession(socket: TLSSocket): void {
    const onSession = (session: ServerHttp2Session): void => {
      const connection = this.#connections.track(socket, session)
      session.on('error', () => undefined) // 'close' follows
      session.once('close', () => socket.destroy())
      socket.once('close', () => {
        session.destroy()
        this.#connections.closed(connection)
      })
    }
    this.#h2.once('session', onSession)
    this.#h2.emit('connection', socket)
    this.#h2.off('session', onSession)
  }
}
