/** One connection to an export in transmission: requests in flight, each with its own deadline. */
import { randomBytes } from 'node:crypto'
import type tls from 'node:tls'
import type { NbdMover } from '../../../native/nbd.js'
import { StorageTimeoutError } from '../errors.js'
import { negotiate, type HandshakeOptions, type Negotiated } from './handshake.js'
import { encodeOption, encodeRequest, type Request } from './messages.js'
import { PendingRequest, type BlockStatus } from './pending-request.js'
import { Command, FUA, Option } from './protocol.js'
import { Replies } from './replies.js'
import { connectError, Transport } from './transport.js'
import type { NbdAddress } from './url.js'

export interface ConnectOptions extends Omit<HandshakeOptions, 'startTls'> {
  readonly address: NbdAddress
  /** For nbds. */
  readonly tls?: tls.ConnectionOptions | undefined
  readonly connectTimeoutMs: number
  readonly operationTimeoutMs: number
  /** Ends the connection, also with requests in flight, a grace after it is aborted. */
  readonly signal?: AbortSignal | undefined
  readonly cancelGraceMs: number
  /** Moves the data past JavaScript, where it can. */
  readonly mover?: NbdMover | undefined
}

interface InFlight {
  readonly request: PendingRequest
  readonly timer: NodeJS.Timeout
  readonly reject: (error: Error) => void
}

const MAX_COOKIE = 0xffffffff

export class NbdConnection {
  readonly facts: Negotiated
  /** Address and port of the server; undefined for a Unix socket. */
  readonly peer: string | undefined
  /** Called once when the connection is lost, or was closed. */
  onFailure: (error: Error) => void = () => undefined
  /**
   * Called when the server has acknowledged a write or zeroing without FUA, at once: before the loss
   * of the connection can be told, even if it comes in the same piece of data.
   */
  onChanged: () => void = () => undefined
  readonly #transport: Transport
  readonly #timeoutMs: number
  readonly #inFlight = new Map<number, InFlight>()
  /** Another connection's reply must not fit by chance. */
  readonly #cookieHigh = randomBytes(4).readUInt32BE()
  readonly #unlink: () => void
  #lastCookie = 0

  /** Resolves when the export can be used. Rejects with ServiceErrors. */
  static async open(options: ConnectOptions): Promise<NbdConnection> {
    const { address, tls, signal } = options
    signal?.throwIfAborted()
    const transport = connect(address, { isPlain: tls === undefined, mover: options.mover })
    const timer = setTimeout(
      () => transport.fail(new StorageTimeoutError()),
      options.connectTimeoutMs,
    )
    const abort = (): void => transport.fail(signal?.reason as Error)
    signal?.addEventListener('abort', abort, { once: true })
    try {
      await transport.connected()
      const startTls = tls === undefined ? undefined : () => transport.startTls(tls)
      const facts = await negotiate(transport, { ...options, startTls })
      return new NbdConnection(transport, facts, options)
    } catch (error) {
      if (transport.failure === undefined) await transport.end(encodeOption(Option.ABORT))
      throw signal?.aborted === true ? (signal.reason as Error) : connectError(error)
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
  }

  private constructor(transport: Transport, facts: Negotiated, options: ConnectOptions) {
    this.facts = facts
    this.peer = transport.peer
    this.#transport = transport
    this.#timeoutMs = options.operationTimeoutMs
    this.#unlink = this.#endWith(options)
    transport.onFailure = (error) => this.#failed(error)
    const format = { dialect: facts.dialect, cookieHigh: this.#cookieHigh }
    transport.moveOver(format, (cookie) => this.#find(cookie)?.onFinished())
    const replies = new Replies(transport.feed, {
      dialect: facts.dialect,
      find: (high, low) => (high === this.#cookieHigh ? this.#find(low) : undefined),
      finish: (request) => request.onFinished(),
    })
    replies.start()
  }

  get failure(): Error | undefined {
    return this.#transport.failure
  }

  /** Reads into the whole of `target`. */
  async read(target: Buffer, offset: number): Promise<void> {
    const request = { command: Command.READ, flags: 0, offset, length: target.length }
    await this.#send(request, { target })
  }

  /** The payload is not used any more when this settles. */
  async write(payload: Buffer, offset: number, flags = 0): Promise<void> {
    const request = { command: Command.WRITE, flags, offset, length: payload.length }
    await this.#send(request, { payload })
  }

  async zero(offset: number, length: number, flags: number): Promise<void> {
    await this.#send({ command: Command.WRITE_ZEROES, flags, offset, length })
  }

  async flush(): Promise<void> {
    await this.#send({ command: Command.FLUSH, flags: 0, offset: 0, length: 0 })
  }

  async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    const contexts = new Set(this.facts.contexts.values())
    const request = { command: Command.BLOCK_STATUS, flags: 0, offset, length }
    return (await this.#send(request, { contexts })).status
  }

  /** Says good-bye. No call may be in flight. */
  async close(): Promise<void> {
    const last = { command: Command.DISC, flags: 0, offset: 0, length: 0 }
    await this.#transport.end(
      encodeRequest(last, { high: this.#cookieHigh, low: 0 }, this.facts.dialect),
    )
  }

  /** Everything in flight rejects with this. */
  fail(error: Error): void {
    this.#transport.fail(error)
  }

  #send(request: Request, { target, payload, contexts }: Extras = {}): Promise<PendingRequest> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) {
        reject(this.failure)
        return
      }
      const pending = new PendingRequest(request, {
        ...(target === undefined ? {} : { target }),
        ...(contexts === undefined ? {} : { contexts }),
      })
      // A reply may overtake the last of its payload, which the kernel must have by then.
      let missing = payload === undefined ? 1 : 2
      const settle = (): void => {
        if (--missing > 0) return
        clearTimeout(timer)
        this.#inFlight.delete(cookie)
        this.#transport.forget(cookie)
        if (pending.error !== undefined) {
          reject(pending.error)
          return
        }
        if (isUnstable(request)) this.onChanged()
        resolve(pending)
      }
      const timer = setTimeout(() => this.fail(new StorageTimeoutError()), this.#timeoutMs)
      const cookie = this.#nextCookie()
      pending.onFinished = () => {
        pending.isFinished = true
        settle()
      }
      this.#inFlight.set(cookie, { request: pending, timer, reject })
      const { dialect } = this.facts
      const header = encodeRequest(request, { high: this.#cookieHigh, low: cookie }, dialect)
      const onSent = payload === undefined ? undefined : settle
      this.#transport.send(header, { cookie, offset: request.offset, target, payload, onSent })
    })
  }

  /** A request whose reply is complete has none any more, even if its payload is still leaving. */
  #find(cookie: number): PendingRequest | undefined {
    const request = this.#inFlight.get(cookie)?.request
    return request?.isFinished === true ? undefined : request
  }

  #failed(error: Error): void {
    this.#unlink()
    for (const { timer, reject } of this.#inFlight.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#inFlight.clear()
    this.onFailure(error)
  }

  /** A server that hangs must not keep a canceled ticket. */
  #endWith({ signal, cancelGraceMs }: ConnectOptions): () => void {
    let timer: NodeJS.Timeout | undefined
    const end = (): void => {
      timer = setTimeout(() => this.fail(signal?.reason as Error), cancelGraceMs)
    }
    if (signal?.aborted === true) end()
    signal?.addEventListener('abort', end, { once: true })
    return () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
    }
  }

  #nextCookie(): number {
    do this.#lastCookie = this.#lastCookie === MAX_COOKIE ? 1 : this.#lastCookie + 1
    while (this.#inFlight.has(this.#lastCookie))
    return this.#lastCookie
  }
}

function connect(...args: ConstructorParameters<typeof Transport>): Transport {
  try {
    return new Transport(...args)
  } catch (error) {
    throw connectError(error)
  }
}

/** It changes data, and they need a flush. */
function isUnstable({ command, flags }: Request): boolean {
  const changes = command === Command.WRITE || command === Command.WRITE_ZEROES
  return changes && (flags & FUA) === 0
}

interface Extras {
  readonly target?: Buffer
  readonly payload?: Buffer
  readonly contexts?: ReadonlySet<number>
}
