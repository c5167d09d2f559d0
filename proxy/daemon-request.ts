/** One request to a daemon, up to the head of its answer; every wait is bounded. */
import type { ClientRequest, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { TLSSocket } from 'node:tls'
import { RequestBody, type ReadableBody } from '../core/http/body.js'
import { IncompleteBodyError, BodyTimeoutError } from '../core/http/errors.js'
import { WITHHELD_FIELD } from '../core/http/front.js'
import { ClientWatch } from '../core/http/watch.js'
import { WithheldBody, type Withheld } from '../core/http/withheld-body.js'
import { DialedSocket } from './dialed-socket.js'
import { DaemonAnswerError, daemonError, DaemonGoneError, DaemonTimeoutError } from './errors.js'

/**
 * Answers before the answer (1xx) to one request. Daemons give none or `100 Continue`, things in between
 * perhaps a few; each costs time here, and none of them is an answer that a deadline waits for.
 */
const MAX_INTERIM = 16
/** Less is not worth the way around Node. */
const MIN_AROUND = 64 * 1024

export interface Deadlines {
  readonly connectMs: number
  /** For bytes: silence of a daemon that should send or take some. */
  readonly silenceMs: number
  /** For the head of the answer once the request is sent. */
  readonly answerMs: number
}

export interface DaemonRequestOptions {
  readonly deadlines: Deadlines
  /** A GET whose body may go around Node, if its connection can do that. */
  readonly takesWithheld: boolean
  /** Ends connecting, where Node does not. */
  readonly giveUp: AbortController
}

export interface DaemonAnswer {
  readonly status: number
  readonly head: IncomingMessage
  /** Its body, with a read() that rejects with a daemon error; to be released. */
  readonly body: AnswerBody
}

export class DaemonRequest {
  /** Rejects with an error of proxy/errors.ts, or the reason of cancel(). */
  readonly answer: Promise<DaemonAnswer>
  /** Aborted when there is an answer, or none will come: the body has no use any more. */
  readonly settled: AbortSignal
  readonly #request: ClientRequest
  readonly #deadlines: Deadlines
  readonly #giveUp: AbortController
  /** The native front has dialed the connection. */
  #dialed: DialedSocket | undefined
  readonly #settled = new AbortController()
  readonly #watch: ClientWatch
  #answerTimer: NodeJS.Timeout | undefined
  #reason: Error | undefined
  readonly #connected = Promise.withResolvers<undefined>()
  readonly #continued = Promise.withResolvers<undefined>()
  #isConnected = false
  #isComplete = false
  #isHastened = false
  #hastened: NodeJS.Timeout | undefined
  #interim = 0
  /** The last write; there is one at a time. */
  #writing: Promise<void> = Promise.resolve()
  #isWriting = false
  #handed = 0

  constructor(request: ClientRequest, { deadlines, takesWithheld, giveUp }: DaemonRequestOptions) {
    this.#request = request
    this.#deadlines = deadlines
    this.#giveUp = giveUp
    this.settled = this.#settled.signal
    const { connectMs, silenceMs } = deadlines
    const total = (): number => this.#dialed?.sent ?? 0
    this.#watch = new ClientWatch({ inactivityMs: silenceMs, minRate: 0, total }, () =>
      this.cancel(new DaemonTimeoutError('it takes no more of the body')),
    )
    request.once('continue', () => this.#continued.resolve(undefined))
    request.on('information', () => this.#countInterim())
    const connecting = setTimeout(
      () => this.cancel(new DaemonTimeoutError('no connection')),
      connectMs,
    )
    const onConnected = (): void => {
      this.#isConnected = true
      this.#connected.resolve(undefined)
      clearTimeout(connecting)
    }
    request.once('socket', (socket) => {
      if (socket instanceof DialedSocket) this.#dialed = socket
      if (takesWithheld) this.#dialed?.withholdNext() // nothing of the request is written yet
      whenConnected(socket, request.reusedSocket, onConnected)
    })
    this.answer = new Promise((resolve, reject) => {
      request.once('response', (head) => {
        this.#stop(connecting)
        const body = new AnswerBody(head, silenceMs, {
          reason: () => this.#reason,
          onRelease: () => this.#release(),
          dialed: this.#dialed,
        })
        resolve({ status: head.statusCode ?? 0, head, body })
        this.#settled.abort(new AnsweredEarly())
      })
      // Also after the answer, when the connection breaks within its body.
      request.on('error', (error) => {
        this.#stop(connecting)
        // What broke before Node's client listened is a 'socket hang up' to it.
        const cause = request.socket?.errored ?? error
        reject(this.#reason ?? daemonError(cause, this.#isConnected))
        this.#settled.abort(new AnsweredEarly())
      })
      request.once('close', () => {
        this.#stop(connecting)
        reject(this.#reason ?? new DaemonGoneError())
        this.#settled.abort(new AnsweredEarly())
      })
    })
    this.answer.catch(() => undefined) // whoever sends a body learns by `settled` first
  }

  /** The connection was one that had been idle: it may have been dead before this request. */
  get isReused(): boolean {
    return this.#request.reusedSocket
  }

  /** Resolves when there is a connection, or none will come. */
  async connected(): Promise<void> {
    await Promise.race([this.#connected.promise, this.answer.catch(() => undefined)])
  }

  /**
   * Expect: resolves when the daemon wants the body, has answered, or has said nothing for `ms` since
   * there is a connection.
   */
  async invited(ms: number): Promise<void> {
    const asked = new AbortController()
    const silence = async (): Promise<void> => {
      await this.#connected.promise
      await sleep(ms, undefined, { signal: asked.signal }).catch(() => undefined)
    }
    try {
      await Promise.race([this.#continued.promise, this.answer, silence()])
    } finally {
      asked.abort()
    }
  }

  /**
   * Whether the daemon can have all of the body: `size` bytes, or, undefined, as many as there are. An
   * answer may overtake the news that the last piece was sent.
   */
  hasAll(size?: number): boolean {
    return this.#isComplete || this.#handed === size
  }

  /** Sends the head, which otherwise goes with the first part of the body. */
  announce(): void {
    if (!this.#request.headersSent) this.#request.flushHeaders()
  }

  /**
   * Sends a part of the body. Resolves when its memory is free again. Rejects when `settled`: until
   * `whenUnused` the connection may still take from it.
   */
  async write(chunk: Buffer): Promise<void> {
    // A daemon that refuses and resets: a write that fails makes Node drop what it has not read, the
    // refusal. So what has arrived is read first. What arrives just now is still lost.
    if (this.#handed > 0 && this.#dialed === undefined) await nextTurn()
    this.settled.throwIfAborted()
    this.#handed += chunk.length
    this.#watch.wait()
    try {
      await new Promise<void>((resolve, reject) => {
        const onSettled = (): void => reject(this.settled.reason as Error)
        this.settled.addEventListener('abort', onSettled)
        const settle = (then: () => void): void => {
          this.settled.removeEventListener('abort', onSettled)
          this.#isWriting = false
          then()
        }
        this.#isWriting = true
        this.#writing = this.#send(chunk).then(
          () => settle(resolve),
          () => settle(() => reject(new AnsweredEarly())),
        )
      })
    } finally {
      this.#watch.done()
    }
    if (this.#dialed === undefined) this.#watch.moved(chunk.length)
  }

  /** Resolves when nobody uses the memory of what was written, be it that the write was given up. */
  get whenUnused(): Promise<void> {
    return this.#writing
  }

  /**
   * By the front where that can be done: chunks have their framing, which only Node writes. Settles when
   * the memory is free.
   */
  #send(chunk: Buffer): Promise<void> {
    const request = this.#request
    const isAround = chunk.length >= MIN_AROUND && request.hasHeader('content-length')
    if (!isAround || this.#dialed === undefined || request.socket !== this.#dialed) {
      return this.#sendByNode(chunk)
    }
    this.announce()
    return this.#dialed.writeAround(chunk)
  }

  /** Node forgets the callback of a write to a socket that was destroyed a moment before. */
  #sendByNode(chunk: Buffer): Promise<void> {
    const request = this.#request
    return new Promise((resolve, reject) => {
      // The kernel has let go of the socket by then.
      const onClose = (): void => reject(new DaemonGoneError())
      request.once('close', onClose)
      request.write(chunk, (error) => {
        request.off('close', onClose)
        if (error) reject(error)
        else resolve()
      })
    })
  }

  /** The request is complete; the daemon's turn. */
  end(body?: Buffer): void {
    this.#isComplete = true
    this.#request.end(body)
    this.#answerTimer = this.#answerWithin(this.#deadlines.answerMs)
    if (this.#isHastened) this.hasten()
  }

  /** Nobody waits for the answer any more: it may take no longer than any answer that needs no work. */
  hasten(): void {
    this.#isHastened = true
    if (!this.#isComplete) return
    // Beside the other, which may come first.
    this.#hastened ??= this.#answerWithin(this.#deadlines.silenceMs)
  }

  /** Ends the connection now. */
  cancel(reason: Error): void {
    this.#reason ??= reason
    this.#destroy(reason)
    this.#giveUp.abort(reason)
  }

  #answerWithin(ms: number): NodeJS.Timeout | undefined {
    if (this.settled.aborted) return undefined
    return setTimeout(() => this.cancel(new DaemonTimeoutError('no answer')), ms)
  }

  #countInterim(): void {
    if (++this.#interim <= MAX_INTERIM) return
    this.cancel(new DaemonAnswerError(`more than ${MAX_INTERIM} interim ones (1xx)`))
  }

  /** A daemon that still waits for a body, or for the rest of it, would take the next request for that. */
  #release(): void {
    if (!this.#isComplete || this.#isWriting) this.#destroy()
  }

  #destroy(reason?: Error): void {
    this.#request.destroy(reason)
    // The front would go on with a write that was given up for as long as the daemon takes a byte now
    // and then.
    if (this.#isWriting) this.#dialed?.cut()
  }

  #stop(connecting: NodeJS.Timeout): void {
    clearTimeout(connecting)
    clearTimeout(this.#answerTimer)
    clearTimeout(this.#hastened)
    this.#watch.stop()
  }
}

/** No error for anybody: the answer says what is to be said. */
export class AnsweredEarly extends Error {
  constructor() {
    super('the daemon has answered')
  }
}

/** What the body of an answer has to do with its request. */
interface Owner {
  /** Why we ended the connection, if we did. */
  readonly reason: () => Error | undefined
  readonly onRelease: () => void
  /** The connection, when the native front has dialed it. */
  readonly dialed: DialedSocket | undefined
}

/** The body of an answer as a source of bytes. */
export class AnswerBody {
  readonly #body: ReadableBody
  /** The front has it; the response is complete without. */
  readonly #withheld: WithheldBody | undefined
  readonly #head: IncomingMessage
  readonly #owner: Owner
  readonly #never = new AbortController()
  #onRelease: (() => void) | undefined

  constructor(head: IncomingMessage, silenceMs: number, owner: Owner) {
    this.#head = head
    this.#owner = owner
    head.on('error', () => undefined) // 'close' follows
    const { dialed } = owner
    const options = {
      inactivityMs: silenceMs,
      minRate: 0,
      signal: this.#never.signal,
      onStart: () => undefined,
      onReceived: () => undefined,
    }
    const withheld = takeWithheld(head, dialed)
    if (withheld !== undefined) {
      const total = (): number => dialed?.received ?? 0
      this.#withheld = new WithheldBody(withheld, { ...options, total })
    }
    this.#body = this.#withheld ?? new RequestBody(head, options)
  }

  /** As RequestBody.read(). */
  async read(target: Buffer, lingerMs?: number): Promise<number> {
    try {
      return await this.#body.read(target, lingerMs)
    } catch (error) {
      const reason = this.#owner.reason()
      if (reason !== undefined) throw reason
      // The body here is an answer, and no request's.
      if (error instanceof IncompleteBodyError) {
        throw new DaemonGoneError(new Error('its answer is not complete'))
      }
      if (error instanceof BodyTimeoutError) throw new DaemonTimeoutError('it sends nothing more')
      throw error
    }
  }

  whenReleased(callback: () => void): void {
    this.#onRelease = callback
  }

  /** Lets the connection go: to the next request when the answer is complete, else it ends. */
  release(): void {
    this.#body.release()
    this.#onRelease?.()
    this.#owner.onRelease()
    // Until it is read to its end Node does not let go of the connection.
    if (!this.#head.complete || this.#withheld?.isTaken === false) this.#head.destroy()
    else this.#head.resume()
  }
}

/** The head is then as the daemon sent it. */
function takeWithheld(
  { headers }: IncomingMessage,
  dialed: DialedSocket | undefined,
): Withheld | undefined {
  const withheld = dialed?.withheld(headers)
  delete headers[WITHHELD_FIELD]
  if (withheld !== undefined) headers['content-length'] = String(withheld.length)
  return withheld
}

function whenConnected(socket: Socket, isReused: boolean, onConnected: () => void): void {
  if (isReused || socket instanceof DialedSocket) onConnected()
  else socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', onConnected)
}
