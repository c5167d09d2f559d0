/** Keeps connections that the native front dials, for Node's HTTP client. */
import type http from 'node:http'
import type { Duplex } from 'node:stream'
import { Agent } from '../core/http/node-http.js'
import type { Transport, TrustHandle } from '../native/transport.js'
import { DialedSocket, type Way } from './dialed-socket.js'

/** What a request on such a connection needs to say. */
export interface FrontRequestOptions extends http.RequestOptions {
  /** Ends connecting with its reason; Node does not, before there is a socket. */
  readonly givenUp: AbortSignal
}

export class FrontAgent extends Agent {
  readonly #transport: Transport
  readonly #trust: TrustHandle | undefined
  readonly #idleMs: number
  readonly #open = new Set<DialedSocket>()

  constructor(options: http.AgentOptions, transport: Transport, trust: TrustHandle | undefined) {
    super(options)
    this.#transport = transport
    this.#trust = trust
    this.#idleMs = options.timeout ?? 0
  }

  override createConnection(
    options: http.ClientRequestArgs,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    this.#dial(options as FrontRequestOptions).then(
      (socket) => callback?.(null, socket),
      (error: unknown) => callback?.(error as Error, undefined as never),
    )
  }

  async #dial({ host, port, socketPath, givenUp }: FrontRequestOptions): Promise<DialedSocket> {
    const way: Way =
      typeof socketPath === 'string'
        ? { socketPath }
        : { host: host ?? '', port: Number(port), trust: this.#trust }
    const socket = await DialedSocket.dial(this.#transport, way, givenUp)
    this.#open.add(socket)
    // Bodies that went around the socket did not count as its being used.
    socket.on('free', () => socket.setTimeout(this.#idleMs))
    socket.once('close', () => this.#open.delete(socket))
    return socket
  }

  /** Also what was written and not sent yet. */
  override destroy(): void {
    super.destroy()
    for (const socket of this.#open) socket.cut()
  }
}
