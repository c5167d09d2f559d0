/**
 * One request and its response, over HTTP/1.1 and HTTP/2 alike. Every response leaves through here, so
 * that framing, closing and the fields each response has are decided once.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import type { Readable } from 'node:stream'
import type { Pace } from '../rate/pace.js'
import { parseExactJson, stringifyJson } from '../json.js'
import type { Logger } from '../log.js'
import {
  RequestBody,
  readAll,
  takeHeld,
  type BodyOptions,
  type PaceableBody,
  type ReadableBody,
} from './body.js'
import type { Connection } from './connection.js'
import { BadRequestError, ClientGoneError } from './errors.js'
import { announcesBody, isHttp1 } from './framing.js'
import { PacedBody } from './paced-body.js'
import { parseQuery, type Query } from './query.js'
import { ResponseSink } from './sink.js'
import { VERSION } from './version.js'
import { WithheldBody, type Withheld } from './withheld-body.js'
import type { WatchOptions } from './watch.js'

export type Request = IncomingMessage | Http2ServerRequest
export type Response = ServerResponse | Http2ServerResponse
export type Headers = Record<string, string | number>

/** One for all: nobody looks where it came from, and a stack for each request costs. */
const CLOSED = new ClientGoneError()

/** Bytes of a JSON body; a ticket has a few hundred. */
export const MAX_JSON_BODY = 64 * 1024

/** Far below what a socket takes before it asks to wait (writableHighWaterMark). */
const LARGE_RESPONSE = 8 * 1024

export interface ExchangeOptions {
  readonly request: Request
  readonly response: Response
  readonly connection: Connection
  /** Lines get the service, connection and client added. */
  readonly logger: Logger
  readonly service: string
  /** How long bodies may take while nobody knows the client. */
  readonly watch: WatchOptions
  /** The ticket's id in the path, if the route has one. */
  readonly id: string
}

export class Exchange {
  readonly id: string
  readonly method: string
  readonly query: Query
  readonly connection: Connection
  readonly startedAt = performance.now()
  readonly #request: Request
  readonly #response: Response
  readonly #watch: WatchOptions
  readonly #abort = new AbortController()
  readonly #rootLogger: Logger
  #bindings: Readonly<Record<string, string | number>>
  #logger: Logger | undefined
  #body: RequestBody | undefined
  /** The body is not in the request, the native front has it. */
  readonly #withheld: Withheld | undefined
  #withheldBody: WithheldBody | undefined
  #hasSentAround = false
  /** Set when the body was cut, or its connection closed, before anybody read it. */
  #held: Buffer | undefined
  #closes = false

  constructor({ request, response, connection, logger, service, watch, id }: ExchangeOptions) {
    this.#request = request
    this.#response = response
    this.#watch = watch
    this.id = id
    this.method = request.method ?? ''
    this.query = parseQuery(request.url ?? '')
    this.connection = connection
    this.#withheld = connection.front?.withheld(request.headers)
    this.#rootLogger = logger
    this.#bindings = { service, connection: connection.id, client: connection.address }
    response.once('close', () => this.#abort.abort(CLOSED))
  }

  /** Made when first needed: most requests log nothing. */
  get logger(): Logger {
    this.#logger ??= this.#rootLogger.child(this.#bindings)
    return this.#logger
  }

  /** Further lines about this request tell these fields, too. */
  bind(fields: Readonly<Record<string, string>>): void {
    this.#logger = undefined
    this.#bindings = { ...this.#bindings, ...fields }
  }

  get isDebugged(): boolean {
    return this.#rootLogger.isLevelEnabled('debug')
  }

  /** Aborted when the response can go nowhere any more, or is complete. */
  get closed(): AbortSignal {
    return this.#abort.signal
  }

  get headersSent(): boolean {
    return this.#response.headersSent
  }

  get statusCode(): number {
    return this.#response.statusCode
  }

  /** Whether any byte of body is announced. */
  get hasBody(): boolean {
    return this.#withheld !== undefined || announcesBody(this.#request)
  }

  /** The announced size of the body; undefined when only its end will tell. */
  get contentLength(): number | undefined {
    if (this.#withheld !== undefined) return this.#withheld.length
    const length = this.#request.headers['content-length']
    return length === undefined ? undefined : Number(length)
  }

  /** Whether a body of unknown length may follow. */
  get isChunked(): boolean {
    if (this.contentLength !== undefined) return false
    return !isHttp1(this.#request) || this.#request.headers['transfer-encoding'] !== undefined
  }

  /** Whether all of the body has come, and is kept should the client go before anybody reads it. */
  get isBodyHere(): boolean {
    return this.#withheld === undefined && isHttp1(this.#request) && this.#request.complete
  }

  /** The client waits for `100 Continue` before it sends its body. */
  get expectsContinue(): boolean {
    return this.header('expect')?.toLowerCase() === '100-continue'
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  /** A field behind the request's body, once that was read to its end. */
  trailer(name: string): string | undefined {
    const value = this.#request.trailers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  /** For this response, whatever becomes of it. */
  setHeader(name: string, value: string): void {
    if (!this.#response.headersSent) this.#response.setHeader(name, value)
  }

  /** The connection ends with this response, and the client is told so. HTTP/2 has no such thing. */
  closeAfter(): void {
    this.#closes = true
  }

  /** Sends an empty or complete response. */
  send(status: number, body: string | Buffer = '', headers: Headers = {}): void {
    const payload = typeof body === 'string' ? Buffer.from(body) : body
    // 204 has no content-length in the RFC, but the engine's client reads to the end of the
    // connection without it (images-api.md, 2.2).
    this.#expectBody(payload.length)
    this.#writeHead(status, { 'content-length': payload.length, ...headers })
    this.#response.end(payload)
    this.#finish()
  }

  /** Answers HEAD where only the work itself would tell the length of the body. */
  sendHead(status: number, headers: Headers): void {
    this.#writeHead(status, headers)
    this.end()
  }

  sendJson(value: unknown, headers: Headers = {}): void {
    this.send(200, stringifyJson(value), { 'content-type': 'application/json', ...headers })
  }

  /** The request body, to be released by the caller. */
  body(
    watch: WatchOptions = this.#watch,
    signal: AbortSignal = this.closed,
    pace?: Pace,
  ): ReadableBody {
    const options: BodyOptions = {
      ...watch,
      isExcused: this.#isExcused,
      closed: this.closed,
      signal,
      held: this.#held,
      onStart: () => {
        if (this.expectsContinue) this.#response.writeContinue()
      },
      onReceived: (size) => void (this.connection.bytesReceived += size),
    }
    const body = this.#openBody(options)
    return pace === undefined ? body : new PacedBody(body, this.#paced(pace))
  }

  #openBody(options: BodyOptions): PaceableBody {
    if (this.#withheld !== undefined) {
      const { front } = this.connection
      const total = front && (() => front.received())
      this.#withheldBody = new WithheldBody(this.#withheld, { ...options, total })
      return this.#withheldBody
    }
    this.#body = new RequestBody(this.#bodyStream, options)
    if (this.#held !== undefined) this.#endBody(this.#body)
    return this.#body
  }

  /** Reads a small JSON body. Throws BadRequestError, BodyTooLargeError, BodyTimeoutError. */
  async readJson(): Promise<unknown> {
    const body = this.body()
    try {
      return parseExactJson(await readAll(body, MAX_JSON_BODY))
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
      throw new BadRequestError('the body is not JSON in UTF-8', { cause: error })
    } finally {
      body.release()
    }
  }

  /** A sink that sends `headers` with its first byte; to be released by the caller. */
  sink(
    status: number,
    headers: Headers,
    { watch = this.#watch, cut, pace }: { watch?: WatchOptions; cut: () => void; pace?: Pace },
  ): ResponseSink {
    const { front } = this.connection
    return new ResponseSink(this.#response, {
      ...watch,
      isExcused: this.#isExcused,
      pace: pace && this.#paced(pace),
      closed: this.closed,
      total: front && (() => front.sent()),
      ...(front === undefined ? {} : { sendAround: (piece: Buffer) => this.#sendAround(piece) }),
      onStart: () => {
        this.#expectBody(Number(headers['content-length'] ?? Infinity))
        this.#writeHead(status, headers)
      },
      onSent: (size) => void (this.connection.bytesSent += size),
      onTimeout: () => {
        this.logger.warn('the client takes nothing, or too little')
        cut()
      },
    })
  }

  /** By the native front, when this response is the one its connection's socket is busy with. */
  #sendAround(piece: Buffer): Promise<void> | undefined {
    const { front, socket } = this.connection
    const response = this.#response as ServerResponse
    // Between chunks there is their framing, which only Node writes.
    if (front === undefined || response.socket !== socket || !response.hasHeader('content-length'))
      return undefined
    if (!this.#hasSentAround) response.flushHeaders()
    this.#hasSentAround = true
    return front.write(socket.bytesWritten, piece)
  }

  get isH2(): boolean {
    return !isHttp1(this.#request)
  }

  /** Whether the client does something with fields behind the body (RFC 9110, 6.5.1). */
  get takesTrailers(): boolean {
    if (this.isH2) return true
    const codings = this.header('te')?.toLowerCase().split(',') ?? []
    const isNamed = codings.some((coding) => coding.trim() === 'trailers')
    return isNamed && this.#request.httpVersion === '1.1'
  }

  /** Ends a response whose body went through a sink. */
  end(trailers?: Record<string, string>): void {
    // The compatibility response takes the same call.
    if (trailers !== undefined) (this.#response as ServerResponse).addTrailers(trailers)
    this.#response.end()
    this.#finish()
  }

  /**
   * Ends the response where it is: the client misses the bytes that were announced, which is how it
   * learns that something went wrong after the header.
   */
  cut(): void {
    if (isHttp1(this.#request)) this.connection.cut()
    else this.#request.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  }

  /** The rest of the request is not what was announced, see RequestBody.cut. */
  cutBody(held?: Buffer): void {
    if (this.#withheld !== undefined) return // its reads tell
    if (isHttp1(this.#request) && this.#request.complete && held === undefined) return
    if (this.#body === undefined) this.#held = held ?? takeHeld(this.#bodyStream)
    else this.#body.cut()
  }

  /** HTTP/1: the connection closes now, and with it goes what Node holds of a body that is complete. */
  keepBody(): void {
    if (this.#withheld !== undefined) return
    if (!isHttp1(this.#request) || !this.#request.complete) return
    if (this.#body === undefined) this.#held ??= takeHeld(this.#bodyStream)
    else this.#endBody(this.#body)
  }

  readonly #isExcused = (): boolean => this.connection.isHeldBack

  /** The connection knows what waits for the pace. */
  #paced(pace: Pace): Pace {
    const { connection } = this
    return {
      get isLimited() {
        return pace.isLimited
      },
      take: (upTo, signal) => connection.holdBack(pace.take(upTo, signal)),
      giveBack: (size) => pace.giveBack(size),
    }
  }

  #endBody(body: RequestBody): void {
    if (isHttp1(this.#request) && this.#request.complete) body.complete()
    else body.cut()
  }

  get #bodyStream(): Readable {
    return isHttp1(this.#request) ? this.#request : this.#request.stream
  }

  /** A body that nobody reads must not be taken for the next request. */
  #hasUnreadBody(): boolean {
    if (this.#withheld !== undefined) return this.#withheldBody?.isTaken !== true
    return this.hasBody && isHttp1(this.#request) && !this.#request.complete
  }

  #expectBody(size: number): void {
    if (size >= LARGE_RESPONSE) this.connection.expectLargeResponse()
  }

  #writeHead(status: number, headers: Headers): void {
    const response = this.#response
    response.sendDate = false
    response.setHeader('server', `imageio/${VERSION}`)
    response.setHeader('date', new Date().toUTCString())
    if (isHttp1(this.#request)) {
      if (this.#closes || this.#hasUnreadBody() || this.connection.isLast) {
        this.connection.isClosing = true
        response.setHeader('connection', 'close')
      }
    }
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    // The compatibility response takes the same call.
    ;(response as ServerResponse).writeHead(status)
  }

  /** A client that does not take the answer must not hold its connection. */
  #finish(): void {
    const timer = setTimeout(() => this.cut(), this.#watch.inactivityMs).unref()
    this.#response.once('close', () => clearTimeout(timer))
    this.#ignoreRest()
  }

  #ignoreRest(): void {
    if (isHttp1(this.#request) || this.#request.complete) return
    const { stream } = this.#request
    this.#response.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR))
  }
}
