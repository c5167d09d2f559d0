/** A response body as a sink of bytes. */
import type { Pace } from '../rate/pace.js'
import { ClientGoneError } from './errors.js'
import { ClientWatch, type WatchOptions } from './watch.js'

/** What is written to; both servers' responses have it. */
export interface ByteStream {
  write(chunk: Buffer, callback: (error?: Error | null) => void): boolean
}

export interface SinkOptions extends WatchOptions {
  /** Aborted when the response has closed. */
  readonly closed: AbortSignal
  /** Called once, before the first byte is written: sends the header. */
  readonly onStart: () => void
  readonly onSent: (size: number) => void
  /**
   * Sends a large piece around the stream, where that can be done; resolves when its memory may be
   * used again, and rejects when the connection has gone.
   */
  readonly sendAround?: (piece: Buffer) => Promise<void> | undefined
  /** The client takes nothing, or too little: must end the connection, which fails the write. */
  readonly onTimeout: () => void
  /** Says how fast the body may go out; any speed without. */
  readonly pace?: Pace | undefined
}

/**
 * Node tells when a whole write is done and nothing in between, so a slow client would look stalled
 * during a large one: pieces start small and grow as long as they go out quickly.
 */
const FIRST_PIECE = 64 * 1024
const LARGEST_PIECE = 1024 * 1024
const QUICK_MS = 1000
/** Less is not worth the way. */
const MIN_AROUND = 64 * 1024

export class ResponseSink {
  readonly #stream: ByteStream
  readonly #options: SinkOptions
  readonly #watch: ClientWatch
  #isStarted = false
  #pieceSize = FIRST_PIECE

  constructor(stream: ByteStream, options: SinkOptions) {
    this.#stream = stream
    this.#options = options
    this.#watch = new ClientWatch(options, options.onTimeout)
  }

  /**
   * Resolves when the chunk's memory may be used again. Rejects when the connection ended; who wants
   * to stop a write that waits for the client ends the connection.
   */
  async write(chunk: Buffer): Promise<void> {
    if (chunk.length === 0) this.start()
    const { sendAround, pace: limit } = this.#options
    if (sendAround !== undefined && chunk.length >= MIN_AROUND && limit?.isLimited !== true) {
      this.start()
      if (await this.#sendAround(chunk, sendAround)) return
    }
    for (let offset = 0; offset < chunk.length;) {
      const { pace, closed } = this.#options
      const wanted = Math.min(this.#pieceSize, chunk.length - offset)
      const size = pace?.isLimited === true ? await pace.take(wanted, closed) : wanted
      this.start() // not before: who is canceled while it is held back can be told so
      const piece = chunk.subarray(offset, offset + size)
      const startedAt = performance.now()
      await this.#send(piece)
      offset += piece.length
      const isQuick = performance.now() - startedAt < QUICK_MS
      this.#pieceSize = isQuick ? Math.min(this.#pieceSize * 2, LARGEST_PIECE) : FIRST_PIECE
    }
  }

  /** Sends the header, for a body that may be empty. */
  start(): void {
    if (this.#isStarted) return
    this.#isStarted = true
    this.#options.onStart()
  }

  /** Must be called when nobody writes any more. */
  release(): void {
    this.#watch.stop()
  }

  /** False when the stream has to do it. What moves is told by `total` meanwhile, not by pieces. */
  async #sendAround(chunk: Buffer, send: (piece: Buffer) => Promise<void> | undefined) {
    const { closed, onSent } = this.#options
    closed.throwIfAborted()
    const sending = send(chunk)
    if (sending === undefined) return false
    this.#watch.wait()
    try {
      await sending
    } catch (cause) {
      throw new ClientGoneError({ cause })
    } finally {
      this.#watch.done()
    }
    onSent(chunk.length)
    return true
  }

  /**
   * Settles with the write's callback, or when the response has closed: Node forgets the callback of
   * a write to a socket that was destroyed a moment before. Once it is closed nothing uses the piece.
   */
  async #send(piece: Buffer): Promise<void> {
    const { closed } = this.#options
    closed.throwIfAborted()
    this.#watch.wait()
    try {
      await new Promise<void>((resolve, reject) => {
        const onClosed = (): void => reject(closed.reason as Error)
        closed.addEventListener('abort', onClosed)
        this.#stream.write(piece, (error) => {
          closed.removeEventListener('abort', onClosed)
          if (error) reject(new ClientGoneError({ cause: error }))
          else resolve()
        })
      })
    } finally {
      this.#watch.done()
    }
    if (this.#options.total === undefined) this.#watch.moved(piece.length)
    this.#options.onSent(piece.length)
  }
}
