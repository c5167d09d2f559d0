/**
 * The door to the native front, see docs/transport.md: threads that accept connections, run TLS, relay
 * to an ordinary HTTP server over a socketpair, and move bulk bodies between clients and Buffers.
 *
 * A Buffer given to read() or write() belongs to the front until the promise settles, also when that
 * rejects. Promises settle once, and before closed() is called.
 */
import { getSystemErrorName } from 'node:util'
import { FrontDoor, type TlsSettings } from './index.js'

export type { TlsSettings }

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

/** As native/src/transport/event.h. */
const EVENTS = [
  'accepted',
  'opened',
  'foreign',
  'reset',
  'handshakeFailed',
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
  /** By connection, those first that are answered first. */
  readonly #reads = new Map<number, Pending[]>()
  readonly #writes = new Map<number, Pending[]>()
  #isClosed = false

  constructor(threads: number) {
    this.#door = new FrontDoor(this.#onEvent, threads)
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

  admit(connection: number): void {
    this.#door.admit(connection)
  }

  /** Ends the connection now, whatever is under way. */
  cut(connection: number): void {
    if (!this.#isClosed) this.#door.cut(connection)
  }

  /**
   * Fills the target with the next bytes of the body that was withheld from this request: fewer only
   * when no more come. Rejects with ConnectionLostError when there are none. Two at a time: the second
   * is filled as soon as the first is full.
   */
  read(connection: number, request: number, target: Buffer): Promise<number> {
    return this.#order(this.#reads, connection, target, () =>
      this.#door.read(connection, request, target),
    )
  }

  /** Settles open reads with what has come. */
  cancelRead(connection: number): void {
    if (this.#reads.has(connection)) this.#door.cancelRead(connection)
  }

  /**
   * Sends the chunk behind the first `after` bytes that the server has written into its socketpair;
   * nothing may be written there meanwhile. One at a time.
   */
  async write(connection: number, after: number, chunk: Buffer): Promise<void> {
    await this.#order(this.#writes, connection, chunk, () =>
      this.#door.write(connection, after, chunk),
    )
  }

  /** Bytes that went over the client's socket, both ways; undefined once it is closed. */
  moved(connection: number): number | undefined {
    return this.#isClosed ? undefined : this.#door.moved(connection)
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

  readonly #onEvent = (
    kind: number,
    connection: number,
    listener: number,
    value: number,
    error: number,
    text: string,
  ): void => {
    const event = EVENTS[kind]
    const handlers = this.#listeners.get(listener)
    if (event === 'read') this.#settle(this.#reads, connection, value, error)
    else if (event === 'written') this.#settle(this.#writes, connection, value, error)
    else if (event === 'accepted') handlers?.accepted(connection, text === '' ? undefined : text)
    else if (event === 'opened') handlers?.opened(connection, value)
    else if (event === 'foreign') handlers?.foreign(connection, value)
    else if (event === 'reset') handlers?.reset(connection)
    else if (event === 'handshakeFailed') handlers?.handshakeFailed(connection, text)
    else if (event === 'closed') handlers?.closed(connection)
  }
}
