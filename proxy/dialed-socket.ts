/**
 * A connection to a daemon that the native front has dialed (docs/transport.md): for Node's HTTP client
 * an ordinary socket, beside which large bodies go on the front's threads.
 */
import { lookup } from 'node:dns/promises'
import net from 'node:net'
import { withheldBy } from '../core/http/front.js'
import type { Withheld } from '../core/http/withheld-body.js'
import type { Destination, Transport, TrustHandle } from '../native/transport.js'

/** Where to, and who has to be there. */
export type Way =
  | { readonly socketPath: string }
  | {
      readonly host: string
      readonly port: number
      /** Without it plain HTTP is spoken. */
      readonly trust?: TrustHandle | undefined
    }

export class DialedSocket extends net.Socket {
  /** Both ends have one address. */
  readonly isSameHost: boolean
  readonly #transport: Transport
  readonly #id: number
  #received = 0
  #sent = 0

  /**
   * Rejects as connecting does elsewhere, with an error that has a code, or with the signal's reason.
   */
  static async dial(transport: Transport, way: Way, signal: AbortSignal): Promise<DialedSocket> {
    const to = await untilAborted(destination(way), signal)
    const { promise, resolve, reject } = Promise.withResolvers<DialedSocket>()
    let socket: DialedSocket | undefined
    const id = transport.dial(to, {
      opened: (fd, local, remote) => {
        const isSameHost = local !== undefined && local === remote
        socket = new DialedSocket(transport, id, fd, isSameHost)
        resolve(socket)
      },
      failed: reject,
      reset: (reason) => void socket?.destroy(Object.assign(new Error(reason), { code: reason })),
      closed: () => reject(new Error('the connection was closed')),
    })
    try {
      return await untilAborted(promise, signal)
    } catch (error) {
      transport.cut(id)
      throw error
    }
  }

  private constructor(transport: Transport, id: number, fd: number, isSameHost: boolean) {
    super({ fd, readable: true, writable: true })
    this.#transport = transport
    this.#id = id
    this.isSameHost = isSameHost
    // It may break before Node's client listens: an error of one connection ends no process.
    this.on('error', () => undefined)
  }

  /** The other end has gone, whether Node has noticed or not. */
  get hasLeft(): boolean {
    return this.#transport.hasEnded(this.#id)
  }

  /** Bytes of the daemon. */
  get received(): number {
    this.#received = this.#transport.received(this.#id) ?? this.#received
    return this.#received
  }

  /** Bytes that are on their way to it. */
  get sent(): number {
    this.#sent = this.#transport.sent(this.#id) ?? this.#sent
    return this.#sent
  }

  /** The body of the next response is withheld if it is large and plain; before its request is written. */
  withholdNext(): void {
    this.#transport.withholdNext(this.#id, this.bytesRead)
  }

  /** The body that was withheld from the response with these fields. */
  withheld(headers: Readonly<Record<string, unknown>>): Withheld | undefined {
    return withheldBy(this.#transport, this.#id, headers)
  }

  /** Sends the chunk behind what was written here; resolves when its memory is free again. */
  writeAround(chunk: Buffer): Promise<void> {
    return this.#transport.write(this.#id, this.bytesWritten, chunk)
  }

  /** Ends the connection now; destroying it sends what was written. */
  cut(): void {
    this.#transport.cut(this.#id)
    this.destroy()
  }
}

async function destination(way: Way): Promise<Destination> {
  if ('socketPath' in way) return { path: way.socketPath }
  const { host, port, trust } = way
  const found = await lookup(host, { all: true })
  const addresses = found.map(({ address }) => address)
  if (trust === undefined) return { addresses, port }
  // SNI has names only; an address is compared with the certificate all the same.
  const serverName = net.isIP(host) === 0 ? host : ''
  return { addresses, port, tls: { trust, serverName, host: host.replace(/\.$/, '') } }
}

/** What comes of the promise later is nobody's business. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const onAbort = (): void => aborted.reject(signal.reason as Error)
  signal.addEventListener('abort', onAbort)
  try {
    signal.throwIfAborted()
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
    promise.catch(() => undefined)
  }
}
