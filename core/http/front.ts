/**
 * Joins the native front to an ordinary HTTP server (docs/transport.md): one listener, and for each of
 * its connections a socket that the server takes for the client's own.
 */
import { lookup } from 'node:dns/promises'
import net, { type AddressInfo, type Socket } from 'node:net'
import type { Transport, TransportHandlers, TransportListener } from '../../native/transport.js'
import { CIPHERS, type TlsMaterial } from './tls.js'
import type { Withheld } from './withheld-body.js'

export interface FrontOptions {
  readonly transport: Transport
  readonly handshakeTimeoutMs: number
  readonly tls?: TlsMaterial
  /** A function that gives the connection's place back, or undefined when there is none. */
  readonly enter: (address: string | undefined) => (() => void) | undefined
  /** A connection is open, and this its server's socket. */
  readonly opened: (socket: Socket, connection: FrontConnection) => void
  /** A client's own socket, of which nothing was read: it wants what the front does not serve. */
  readonly foreign: (socket: Socket) => void
  readonly handshakeFailed: (reason: string) => void
  /** A connection has gone. */
  readonly closed: () => void
}

/** What the head of a request or of a response has whose body is withheld. */
export const WITHHELD_FIELD = 'x-imageio-withheld'

/** The body that was withheld from the message with these fields, on this connection of the front. */
export function withheldBy(
  transport: Transport,
  connection: number,
  headers: Readonly<Record<string, unknown>>,
): Withheld | undefined {
  const field = headers[WITHHELD_FIELD]
  if (typeof field !== 'string') return undefined
  const [, token, message, length] = /^([\da-f]+)\.(\d+) (\d+)$/.exec(field) ?? []
  if (token !== transport.token) return undefined
  return {
    read: (target, lingers) => transport.read(connection, Number(message), target, lingers),
    cancel: () => transport.cancelRead(connection),
    length: Number(length),
  }
}

/** What a connection can do because the front stands before it. */
export class FrontConnection {
  readonly address: string | undefined
  readonly #transport: Transport
  readonly #id: number
  /** Once it is closed nobody tells. */
  #received = 0
  #sent = 0

  constructor(transport: Transport, id: number, address: string | undefined) {
    this.#transport = transport
    this.#id = id
    this.address = address
  }

  /** The body that was withheld from a request with these fields. */
  withheld(headers: Readonly<Record<string, unknown>>): Withheld | undefined {
    return withheldBy(this.#transport, this.#id, headers)
  }

  /** The client has gone, as far as it is known while nobody reads. */
  get hasLeft(): boolean {
    return this.#transport.hasEnded(this.#id)
  }

  /** Sends the chunk behind the first `after` bytes written to the server's socket. */
  write(after: number, chunk: Buffer): Promise<void> {
    return this.#transport.write(this.#id, after, chunk)
  }

  /** Bytes of the client. */
  received(): number {
    this.#received = this.#transport.received(this.#id) ?? this.#received
    return this.#received
  }

  /** Bytes that are on their way to it. */
  sent(): number {
    this.#sent = this.#transport.sent(this.#id) ?? this.#sent
    return this.#sent
  }

  cut(): void {
    this.#transport.cut(this.#id)
  }
}

interface Known {
  readonly connection: FrontConnection
  readonly leave: () => void
  socket?: Socket
}

export class Front {
  readonly #options: FrontOptions
  readonly #known = new Map<number, Known>()
  #listener: TransportListener | undefined
  #address: AddressInfo | string | undefined

  constructor(options: FrontOptions) {
    this.#options = options
  }

  /** Rejects with the system's error, named as Node's own servers do. */
  async listen(at: { readonly path: string } | { host: string; port: number }): Promise<void> {
    const { transport, handshakeTimeoutMs, tls } = this.#options
    const common = {
      handlers: this.#handlers,
      handshakeTimeoutMs,
      ...(tls === undefined ? {} : { tls: settings(tls) }),
    }
    if ('path' in at) {
      // Before anything is awaited: the caller has set the mask for the file's mode.
      this.#listener = named(at.path, () => transport.listen({ path: at.path }, common))
      this.#address = at.path
      return
    }
    const { address, family } = await lookup(at.host)
    const where = `${address}:${at.port}`
    this.#listener = named(where, () => transport.listen({ address, port: at.port }, common))
    this.#address = { address, family: `IPv${family}`, port: this.#listener.port }
  }

  get address(): AddressInfo | string | undefined {
    return this.#address
  }

  /** Connections, those included that are not open yet. */
  get size(): number {
    return this.#known.size
  }

  replaceCertificate(material: TlsMaterial): void {
    this.#listener?.replaceCertificate(settings(material))
  }

  /** Who has not finished its handshake does not come in any more. */
  stopListening(): void {
    this.#listener?.close()
    this.#address = undefined
    for (const { connection, socket } of this.#known.values()) {
      if (socket === undefined) connection.cut()
    }
  }

  cutAll(): void {
    for (const { connection } of this.#known.values()) connection.cut()
  }

  readonly #handlers: TransportHandlers = {
    accepted: (id, address) => {
      const { transport, enter } = this.#options
      const leave = enter(address)
      if (leave === undefined) {
        transport.cut(id)
        return
      }
      this.#known.set(id, { connection: new FrontConnection(transport, id, address), leave })
      transport.admit(id)
    },
    opened: (id, fd) => {
      const known = this.#known.get(id)
      // As Node's servers have it: who ends a TLS connection has gone, who ends a plain one may wait.
      const allowHalfOpen = this.#options.tls === undefined
      const socket = new net.Socket({ fd, allowHalfOpen, readable: true, writable: true })
      if (known === undefined) {
        socket.destroy()
        return
      }
      known.socket = socket
      this.#options.opened(socket, known.connection)
    },
    foreign: (id, fd) => {
      this.#forget(id)
      this.#options.foreign(new net.Socket({ fd, readable: true, writable: true }))
    },
    reset: (id) => {
      const socket = this.#known.get(id)?.socket
      if (socket === undefined) return
      const destroy = (): void => void socket.destroy(connectionReset())
      // What the client had sent before is read first, as from a socket of its own.
      if (socket.readableEnded) destroy()
      else socket.once('end', destroy)
    },
    handshakeFailed: (_id, reason) => this.#options.handshakeFailed(reason),
    closed: (id) => {
      this.#forget(id)
      this.#options.closed()
    },
  }

  #forget(id: number): void {
    const known = this.#known.get(id)
    this.#known.delete(id)
    known?.leave()
  }
}

function settings({ key, cert }: TlsMaterial) {
  return { key: key.toString('latin1'), cert: cert.toString('latin1'), ciphers: CIPHERS }
}

function named<T>(where: string, listen: () => T): T {
  try {
    return listen()
  } catch (error) {
    const { code = '', syscall = 'listen' } = error as NodeJS.ErrnoException
    throw Object.assign(new Error(`${syscall} ${code} ${where}`, { cause: error }), { code })
  }
}

function connectionReset(): Error {
  const error = new Error('read ECONNRESET')
  return Object.assign(error, { code: 'ECONNRESET', errno: -104, syscall: 'read' })
}
