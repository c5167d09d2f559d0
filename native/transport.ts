/**
 * The door to the native front, see docs/transport.md: threads that accept and dial connections, run TLS,
 * relay to an ordinary HTTP server or client over a socketpair, and move bulk bodies between the network
 * and Buffers.
 *
 * A Buffer given to read() or write() belongs to the front until the promise settles, also when that
 * rejects. Promises settle once, and before closed() is called.
 */
import { getSystemErrorName } from 'node:util'
import {
  addon,
  type FrontDoor,
  type OnEvent,
  type TlsSettings,
  type TrustHandle,
  type TrustSettings,
} from './addon.js'

export type { TlsSettings, TrustHandle, TrustSettings }

/** What happens to the connections of one listener. */
export interface TransportHandlers {
  /** A client has connected, from no address on a Unix socket: admit() or cut() it. */
  readonly accepted: (connection: number, address: string | undefined) => void
  /** `fd` is the HTTP server's end of its socketpair, owned by the handler. */
  readonly opened: (connection: number, fd: number) => void
  /** A connection that is none of the front: `fd` is the client's socket, nothing of it was read. */
  readonly foreign: (connection: number, fd: number) => void
  /** The client has reset the connection; what it had sent before is in the socketpair. */
  readonly reset: (connection: number) => void
  readonly handshakeFailed: (connection: number, reason: string) => void
  /** The last about a connection. */
  readonly closed: (connection: number) => void
}

/** What happens to a connection that is dialed. */
export interface DialHandlers {
  /**
   * `fd` is the HTTP client's end of its socketpair, owned by the handler. Both addresses are there
   * unless it leads to a Unix socket.
   */
  readonly opened: (fd: number, local: string | undefined, remote: string | undefined) => void
  /** It was never open. */
  readonly failed: (error: DialError) => void
  /**
   * The server has ended the connection by what OpenSSL calls `reason`. To be told to the HTTP client
   * before its socket ends, which is destroyed then.
   */
  readonly reset: (reason: string) => void
  /** The last about the connection. */
  readonly closed: () => void
}

export type Destination =
  | { readonly path: string }
  | {
      /** Numeric; tried one after the other. */
      readonly addresses: readonly string[]
      readonly port: number
      /** Without it plain HTTP is spoken. */
      readonly tls?: ServerIdentity
    }

/** Who has to be at the other end. */
export interface ServerIdentity {
  readonly trust: TrustHandle
  /** The name to ask for (SNI); empty for an address. */
  readonly serverName: string
  /** The name or address that the certificate has to have. */
  readonly host: string
}

export type FrontAddress =
  { readonly path: string } | { readonly address: string; readonly port: number }

export interface ListenerOptions {
  readonly handlers: TransportHandlers
  readonly handshakeTimeoutMs: number
  /** Without it the listener speaks plain HTTP. */
  readonly tls?: TlsSettings
}

export interface TransportListener {
  /** 0 on a Unix socket. */
  readonly port: number
  /** For connections from now on. Throws when it cannot be used. */
  readonly replaceCertificate: (tls: TlsSettings) => void
  /** Connections that exist go on. */
  readonly close: () => void
}

/** The connection has ended, or the order came too late. */
export class ConnectionLostError extends Error {
  readonly code: string

  constructor(code: string) {
    super(`the connection is gone: ${code}`)
    this.name = 'ConnectionLostError'
    this.code = code
  }
}

/** No connection came of it. */
export class DialError extends Error {
  /** The system's, or OpenSSL's; CERT_UNTRUSTED when the certificate of the server is not good. */
  readonly code: string

  constructor(code: string, message = code) {
    super(`no connection: ${message}`)
    this.name = 'DialError'
    this.code = code
  }
}

/** As native/src/transport/event.h. */
const EVENTS = [
  'accepted',
  'opened',
  'foreign',
  'reset',
  'failed',
  'closed',
  'read',
  'written',
] as const

interface Pending {
  /** Keeps the memory reachable. */
  readonly buffer: Buffer
  readonly resolve: (size: number) => void
  readonly reject: (error: Error) => void
}

export class Transport {
  readonly #door: FrontDoor
  readonly #listeners = new Map<number, TransportHandlers>()
  readonly #dialed = new Map<number, DialHandlers>()
  /** By connection, those first that are answered first. */
  readonly #reads = new Map<number, Pending[]>()
  readonly #writes = new Map<number, Pending[]>()
  #isClosed = false

  constructor(threads: number) {
    this.#door = new addon.FrontDoor(this.#onEvent, threads)
  }

  /** Proves that a head with a withheld body comes from this front. */
  get token(): string {
    return this.#door.token
  }

  /** Throws SystemError. */
  listen(address: FrontAddress, options: ListenerOptions): TransportListener {
    const { handlers, handshakeTimeoutMs, tls } = options
    const { listener, port } =
      'path' in address
        ? this.#door.listenUnix(address.path)
        : this.#door.listenTcp(address.address, address.port, handshakeTimeoutMs, tls)
    this.#listeners.set(listener, handlers)
    return {
      port,
      replaceCertificate: (material) => this.#door.setTls(listener, material),
      close: () => this.#door.stopListening(listener),
    }
  }

  /** What connections are dialed with. Throws when it cannot be used. */
  trust(settings: TrustSettings): TrustHandle {
    return this.#door.trust(settings)
  }

  /** Begins to connect, and returns the connection. */
  dial(to: Destination, handlers: DialHandlers): number {
    const connection = 'path' in to ? this.#door.dialUnix(to.path) : this.#dialTcp(to)
    this.#dialed.set(connection, handlers)
    return connection
  }

  #dialTcp({ addresses, port, tls }: Exclude<Destination, { readonly path: string }>): number {
    if (tls === undefined) return this.#door.dialTcp(addresses, port)
    return this.#door.dialTcp(addresses, port, tls.trust, tls.serverName, tls.host)
  }

  admit(connection: number): void {
    this.#door.admit(connection)
  }

  /** Ends the connection now, whatever is under way. */
  cut(connection: number): void {
    if (!this.#isClosed) this.#door.cut(connection)
  }

  /**
   * Fills the target with the next bytes of the body that was withheld from this request: fewer only
   * when no more come, or when it lingers and some have been there for a while. Rejects with
   * ConnectionLostError when there are none. Two at a time: the second is filled as soon as the first
   * is full.
   */
  read(connection: number, request: number, target: Buffer, lingers = false): Promise<number> {
    return this.#order(this.#reads, connection, target, () =>
      this.#door.read(connection, request, target, lingers),
    )
  }

  /**
   * Of a dialed connection: the body of the next response is withheld, if it is large and plain. To be
   * called before the request is written, when `after` bytes of the socketpair were read: should other
   * bytes come, nothing is withheld.
   */
  withholdNext(connection: number, after: number): void {
    if (!this.#isClosed) this.#door.withholdNext(connection, after)
  }

  /**
   * Whether the other end has ended the connection, or it is closed. Of a client that nobody reads from
   * only a reset is known.
   */
  hasEnded(connection: number): boolean {
    return this.#isClosed || this.#door.hasEnded(connection)
  }

  /** Settles open reads with what has come. */
  cancelRead(connection: number): void {
    if (this.#reads.has(connection)) this.#door.cancelRead(connection)
  }

  /**
   * Sends the chunk behind the first `after` bytes that were written into the socketpair here;
   * nothing may be written there meanwhile. One at a time.
   */
  async write(connection: number, after: number, chunk: Buffer): Promise<void> {
    await this.#order(this.#writes, connection, chunk, () =>
      this.#door.write(connection, after, chunk),
    )
  }

  /** Bytes that came, but for what TLS needs for itself; undefined once it is closed. */
  received(connection: number): number | undefined {
    return this.#isClosed ? undefined : this.#door.received(connection)
  }

  /** Bytes that the kernel has taken to send; undefined once it is closed. */
  sent(connection: number): number | undefined {
    return this.#isClosed ? undefined : this.#door.sent(connection)
  }

  /** Joins the threads. Connections that are left are cut, and nothing is told of them. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#door.close()
    for (const pending of [...this.#reads.values(), ...this.#writes.values()].flat()) {
      pending.reject(new ConnectionLostError('ECANCELED'))
    }
    this.#reads.clear()
    this.#writes.clear()
  }

  #order(
    pending: Map<number, Pending[]>,
    connection: number,
    buffer: Buffer,
    give: () => boolean,
  ): Promise<number> {
    const orders = pending.get(connection) ?? []
    if (orders.length >= (pending === this.#reads ? 2 : 1)) throw new Error('too many orders')
    if (this.#isClosed || !give()) return Promise.reject(new ConnectionLostError('ECONNRESET'))
    pending.set(connection, orders)
    return new Promise((resolve, reject) => orders.push({ buffer, resolve, reject }))
  }

  #settle(pending: Map<number, Pending[]>, connection: number, size: number, error: number): void {
    const orders = pending.get(connection) ?? []
    const order = orders.shift()
    if (orders.length === 0) pending.delete(connection)
    if (error === 0) order?.resolve(size)
    else if (pending === this.#reads && size > 0) order?.resolve(size)
    else order?.reject(new ConnectionLostError(getSystemErrorName(-error)))
  }

  readonly #onEvent: OnEvent = (kind, connection, listener, value, error, text) => {
    const event = EVENTS[kind]
    const handlers = this.#listeners.get(listener)
    const dialed = this.#dialed.get(connection)
    if (event === 'read') this.#settle(this.#reads, connection, value, error)
    else if (event === 'written') this.#settle(this.#writes, connection, value, error)
    else if (dialed !== undefined) this.#onDialed(dialed, event, connection, value, error, text)
    else if (event === 'accepted') handlers?.accepted(connection, text === '' ? undefined : text)
    else if (event === 'opened') handlers?.opened(connection, value)
    else if (event === 'foreign') handlers?.foreign(connection, value)
    else if (event === 'reset') handlers?.reset(connection)
    else if (event === 'failed') handlers?.handshakeFailed(connection, text)
    else if (event === 'closed') handlers?.closed(connection)
  }
  #onDialed(
    handlers: DialHandlers,
    event: (typeof EVENTS)[number] | undefined,
    connection: number,
    value: number,
    error: number,
    text: string,
  ): void {
    if (event === 'opened') {
      const [local, remote] = text.split(' ')
      handlers.opened(value, local === '' ? undefined : local, remote)
    } else if (event === 'failed') {
      handlers.failed(dialError(value, error, text))
    } else if (event === 'reset') {
      if (text !== '') handlers.reset(text)
    } else if (event === 'closed') {
      this.#dialed.delete(connection)
      handlers.closed()
    }
  }
}

function dialError(isUntrusted: number, error: number, reason: string): DialError {
  if (error !== 0) return new DialError(getSystemErrorName(-error))
  return isUntrusted === 0 ? new DialError(reason) : new DialError('CERT_UNTRUSTED', reason)
}
