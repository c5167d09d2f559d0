/**
 * One client connection: a socket, or an HTTP/2 session on one. It knows who is at the other end, how
 * long it may be idle, what was opened on its behalf, and closes all of that with itself.
 */
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { ClientGoneError } from './errors.js'
import type { FrontConnection } from './front.js'
import { hasLeft } from './peer.js'

/** RFC 9110, 9.2.1. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Something opened for a connection, ended with it. */
export interface Closable {
  close(): Promise<void>
}

let lastId = 0

export class Connection {
  /** Names the connection in the log. */
  readonly id = ++lastId
  readonly openedAt = performance.now()
  /** Peer address, 'local' on a Unix socket. */
  readonly address: string
  readonly protocol: 'h1' | 'h2'
  readonly socket: Socket
  /** The native front stands between the client and the socket. */
  readonly front: FrontConnection | undefined
  /** What was opened for this connection, by owner. */
  readonly resources = new Map<object, Closable>()
  /** Bytes of image data sent and received, for the log. */
  bytesSent = 0
  bytesReceived = 0
  requests = 0
  /** Requests that may have changed something. */
  changes = 0
  /** Bodies that are held back by us at this moment. */
  #held = 0
  /** No request that arrives from now on is executed. */
  isClosing = false
  /**
   * HTTP/1: the request behind whose head the parser stumbled before it was served. It is answered
   * all the same. `held` is what had come of its body when that is not all.
   */
  broken: { readonly request: object; readonly held: Buffer | undefined } | undefined
  readonly #session: ServerHttp2Session | undefined
  readonly #gone = new AbortController()
  #active = 0
  #idleSince = performance.now()
  #idleLimitMs: number
  #isAuthorized = false
  #readsStream = false
  /** HTTP/1: the request before must be answered completely first. */
  #tail: Promise<void> = Promise.resolve()
  #queued = 0
  #isOverrun = false
  /** Requests beyond. */
  #ignored = 0

  constructor(
    socket: Socket,
    address: string,
    options: {
      idleLimitMs: number
      session?: ServerHttp2Session
      front?: FrontConnection | undefined
    },
  ) {
    this.socket = socket
    this.address = address
    this.#session = options.session
    this.front = options.front
    this.protocol = options.session === undefined ? 'h1' : 'h2'
    this.#idleLimitMs = options.idleLimitMs
  }

  /** Aborted when the connection is gone. */
  get gone(): AbortSignal {
    return this.#gone.signal
  }

  get isActive(): boolean {
    return this.#active > 0
  }

  /** Milliseconds without a request, 0 while one is served. */
  get idleMs(): number {
    return this.isActive ? 0 : performance.now() - this.#idleSince
  }

  get isIdleTooLong(): boolean {
    return this.idleMs >= this.#idleLimitMs
  }

  /**
   * A ticket was shown that is good: from now on its inactivity timeout counts, but never less than
   * what anybody gets. Receive windows open, too, as memory is now spent for somebody known.
   */
  authorized(inactivityMs: number): void {
    this.#idleLimitMs = Math.max(this.#idleLimitMs, inactivityMs)
    if (this.#isAuthorized) return
    this.#isAuthorized = true
    if (this.#session !== undefined && !this.#session.destroyed) {
      // Without these, four parallel uploads fall to a quarter of their speed.
      this.#session.settings({ initialWindowSize: STREAM_WINDOW })
      this.#session.setLocalWindowSize(SESSION_WINDOW)
    }
  }

  /**
   * Whether the client has gone, which Node does not notice while a body is not read. Who ends a plain
   * connection may wait for an answer.
   */
  get hasLeft(): boolean {
    if (this.front !== undefined) return this.front.hasLeft
    return this.socket instanceof TLSSocket && hasLeft(this.socket)
  }

  /**
   * HTTP/2: ends the connection when the client has. Node loses the end of a connection that comes
   * while its session begins, and would keep it, and its requests, for ever.
   */
  checkPeer(): void {
    if (this.#session !== undefined && hasLeft(this.socket)) this.cut()
  }

  /**
   * HTTP/1: runs requests strictly in order. What comes beyond MAX_PIPELINED, or behind the last response,
   * is not executed. Node keeps all that comes, so who goes on is cut off.
   */
  enqueue(task: () => Promise<void>): void {
    this.#isOverrun ||= this.#queued >= MAX_PIPELINED
    if (this.isClosing || this.#isOverrun) {
      if (++this.#ignored === MAX_PIPELINED) this.cut()
      return
    }
    this.#queued++
    this.#tail = this.#tail.then(task).finally(() => {
      this.#queued--
    })
  }

  /**
   * HTTP/1, before a response that Node may have to hold back: when the next request comes while it still
   * does, Node stops its parser, and the parser, which takes bytes past the stream, gets those that TLS has
   * decrypted already all the same, and fails (HPE_PAUSED). With this listener they come from the stream,
   * which holds them. That costs uploads a quarter more, so it is not for all connections.
   */
  expectLargeResponse(): void {
    if (this.#readsStream || this.protocol === 'h2' || !(this.socket instanceof TLSSocket)) return
    this.#readsStream = true
    this.socket.on('data', () => undefined)
  }

  /**
   * Whether a limit holds back any body here. In HTTP/2 others may then be unable to move, since what
   * nobody reads fills the window of the connection.
   */
  get isHeldBack(): boolean {
    return this.#held > 0
  }

  async holdBack<T>(wait: Promise<T>): Promise<T> {
    this.#held++
    try {
      return await wait
    } finally {
      this.#held--
    }
  }

  /** The response that is sent now is the last one. */
  get isLast(): boolean {
    return this.isClosing || (this.#isOverrun && this.#queued === 1)
  }

  begin(method = 'GET'): void {
    this.#active++
    this.requests++
    if (!SAFE_METHODS.has(method)) this.changes++
  }

  end(): void {
    this.#active--
    this.#idleSince = performance.now()
  }

  /** Ends the connection now; what was not sent is lost, and the client sees that. */
  cut(): void {
    this.front?.cut()
    this.drop()
  }

  /** The same for a connection without a request: what it was sent last still goes out. */
  drop(): void {
    this.isClosing = true
    this.#session?.destroy()
    this.socket.destroy()
  }

  /** Ends the connection as soon as nothing is in progress. */
  shutDown(): void {
    this.isClosing = true
    if (this.#session === undefined) {
      // A client that has sent no request yet need not hear of the end, and would keep its side open.
      if (!this.isActive && this.requests === 0) this.drop()
      else if (!this.isActive) this.socket.end()
    } else if (!this.#session.destroyed) {
      this.#session.close()
    }
  }

  /** The other end or we closed it: whatever was opened for it ends. */
  async closed(): Promise<void> {
    this.isClosing = true
    this.#gone.abort(new ClientGoneError())
    const resources = [...this.resources.values()]
    this.resources.clear()
    await Promise.all(resources.map((resource) => resource.close()))
  }
}

/** Bytes a client may send ahead on one stream and on all together. */
const STREAM_WINDOW = 16 * 1024 * 1024
const SESSION_WINDOW = 32 * 1024 * 1024

/** Requests a client may send ahead without reading answers; browsers and tools send two or three. */
const MAX_PIPELINED = 100
