/**
 * A request body as a source of bytes. Nothing is read, and `100 Continue` is not sent, before the
 * first read: what a client sends ahead stays in bounded socket buffers until somebody wants it.
 */
import type { Readable } from 'node:stream'
import { BodyTimeoutError, BodyTooLargeError, IncompleteBodyError } from './errors.js'
import { ClientWatch, type WatchOptions } from './watch.js'

/** A request body, to be released by who asked for it. */
export interface ReadableBody {
  /**
   * Fills the target. Resolves with fewer bytes only when no more come, with 0 when the body has
   * ended and is complete. Rejects with IncompleteBodyError, BodyTimeoutError or the signal's
   * reason, after everything that came before was handed over. One read at a time.
   *
   * With `lingerMs` it may also resolve, with at least one byte, so long after the first one: for
   * who passes on what comes, and must not hold it back until much has come.
   */
  read(target: Buffer, lingerMs?: number): Promise<number>
  /**
   * The next read but the one that is open will be of this target; it may be filled from now on, and
   * belongs to the body until that read or drop() has settled. When the open read does not fill its
   * target there is no such read. Absent where all of this is of no use.
   */
  ahead?(target: Buffer): void
  /** What ahead() announced is not read; resolves when its memory is free. */
  drop?(): Promise<void>
  /** Must be called when nobody reads any more. */
  release(): void
}

/** A body that can be held back, see PacedBody. */
export interface PaceableBody extends ReadableBody {
  /**
   * The most that one read may still have to ask the client for: 0 when that was asked for already, or
   * nothing more will come, so that there is nothing to hold back.
   */
  readonly awaited: number
  /** Aborted when nothing is to be held back any more: what is here already is little. */
  readonly over: AbortSignal
}

export interface BodyOptions extends WatchOptions {
  /** Ends waiting with its reason. */
  readonly signal: AbortSignal
  /** Called once, before the first byte is read. */
  readonly onStart: () => void
  /** Came before, taken by takeHeld(). */
  readonly held?: Buffer | undefined
  /** Called with the size of each piece that arrived. */
  readonly onReceived: (size: number) => void
  /** Aborted when the client has gone. Nothing is held back from then on. */
  readonly closed?: AbortSignal
}

interface PendingRead {
  readonly target: Buffer
  readonly lingerMs: number | undefined
  readonly resolve: (size: number) => void
  readonly reject: (error: Error) => void
}

export class RequestBody implements PaceableBody {
  readonly #stream: Readable
  readonly #options: BodyOptions
  readonly #watch: ClientWatch
  readonly #onAbort = (): void => this.#fail(this.#options.signal.reason as Error)
  #isStarted = false
  #isEnded = false
  #isCut = false
  #error: Error | undefined
  #rest: Buffer[] = []
  #pending: PendingRead | undefined
  #filled = 0
  #lingering: NodeJS.Timeout | undefined
  readonly #over = new AbortController()

  constructor(stream: Readable, options: BodyOptions) {
    this.#stream = stream
    this.#options = options
    this.#watch = new ClientWatch(options, () => this.#fail(new BodyTimeoutError()))
    options.signal.addEventListener('abort', this.#onAbort)
    options.closed?.addEventListener('abort', this.#onGone)
    if (options.closed?.aborted === true) this.#onGone()
    // Before the first read, too: that may be held back.
    stream.once('close', this.#onClose)
    if (options.held !== undefined) this.#rest.push(options.held)
  }

  get awaited(): number {
    const isOver = this.#isEnded ? this.#rest.length === 0 : this.#isCut
    return isOver || this.#error !== undefined ? 0 : Infinity
  }

  get over(): AbortSignal {
    return this.#over.signal
  }

  read(target: Buffer, lingerMs?: number): Promise<number> {
    if (this.#options.signal.aborted) this.#onAbort()
    this.#start()
    this.#filled = 0
    while (this.#rest.length > 0 && this.#filled < target.length) this.#copy(target, this.#shift())
    const isLast = this.#isEnded || this.#error !== undefined
    if (this.#filled === target.length || (isLast && this.#filled > 0)) {
      return Promise.resolve(this.#filled)
    }
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.#isEnded) return Promise.resolve(0)
    return new Promise((resolve, reject) => {
      this.#pending = { target, lingerMs, resolve, reject }
      if (this.#filled > 0) this.#linger()
      this.#watch.wait()
      this.#stream.resume()
      this.#checkCut()
    })
  }

  /**
   * The connection ended or turned to nonsense in the middle: nothing more will come. What Node
   * holds is taken now, as it is thrown away when the socket closes.
   */
  cut(): void {
    this.#isCut = true
    if (!this.#isEnded) this.#over.abort()
    this.#keepHeld()
    this.#checkCut()
  }

  /** The connection ended, but all of the body had come before. */
  complete(): void {
    this.#onGone()
    this.#keepHeld()
    this.#onEnd()
  }

  release(): void {
    clearTimeout(this.#lingering)
    this.#watch.stop()
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#options.closed?.removeEventListener('abort', this.#onGone)
    this.#stream.off('close', this.#onClose)
    if (!this.#isStarted) return
    this.#stream.off('data', this.#onData).off('end', this.#onEnd)
  }

  readonly #onGone = (): void => this.#over.abort()

  #keepHeld(): void {
    const held = takeHeld(this.#stream)
    if (!this.#isStarted) this.#rest.push(held) // else it went to the listener
  }

  #start(): void {
    if (this.#isStarted) return
    this.#isStarted = true
    this.#options.onStart()
    this.#stream.on('data', this.#onData).once('end', this.#onEnd)
    if (this.#stream.readableEnded) this.#isEnded = true
    else if (this.#stream.destroyed) this.cut()
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#watch.moved(chunk.length)
    this.#options.onReceived(chunk.length)
    const pending = this.#pending
    if (pending === undefined) {
      this.#rest.push(chunk)
      this.#stream.pause()
      return
    }
    this.#copy(pending.target, chunk)
    if (this.#filled < pending.target.length) {
      this.#linger()
      this.#checkCut()
      return
    }
    this.#stream.pause()
    this.#settle()?.resolve(this.#filled)
  }

  readonly #onEnd = (): void => {
    this.#isEnded = true
    this.#settle()?.resolve(this.#filled)
  }

  readonly #onClose = (): void => this.cut()

  /** Bounds the time that the bytes of a read wait for more. */
  #linger(): void {
    const lingerMs = this.#pending?.lingerMs
    if (lingerMs === undefined || this.#lingering !== undefined) return
    this.#lingering = setTimeout(() => {
      this.#stream.pause()
      this.#settle()?.resolve(this.#filled)
    }, lingerMs)
  }

  /** What had come before the cut is read first. */
  #checkCut(): void {
    if (!this.#isCut || this.#isEnded || this.#stream.readableLength > 0) return
    this.#fail(new IncompleteBodyError())
  }

  #fail(error: Error): void {
    this.#error ??= error
    this.#over.abort()
    if (this.#isStarted) this.#stream.pause()
    const pending = this.#settle()
    // What has come is handed over; the next read tells why there is no more.
    if (this.#filled > 0) pending?.resolve(this.#filled)
    else pending?.reject(error)
  }

  #settle(): PendingRead | undefined {
    const pending = this.#pending
    if (pending === undefined) return undefined
    this.#pending = undefined
    clearTimeout(this.#lingering)
    this.#lingering = undefined
    this.#watch.done()
    return pending
  }

  #copy(target: Buffer, chunk: Buffer): void {
    const copied = chunk.copy(target, this.#filled)
    this.#filled += copied
    if (copied < chunk.length) this.#rest.unshift(chunk.subarray(copied))
  }

  #shift(): Buffer {
    return this.#rest.shift() ?? Buffer.alloc(0)
  }
}

/** What Node has received of a body that nobody reads yet. */
export function takeHeld(stream: Readable): Buffer {
  return (stream.read() as Buffer | null) ?? Buffer.alloc(0)
}

/** The whole of a small body. Throws BodyTooLargeError. */
export async function readAll(body: ReadableBody, limit: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(limit + 1)
  let size = 0
  while (size <= limit) {
    const read = await body.read(buffer.subarray(size))
    if (read === 0) return buffer.subarray(0, size)
    size += read
  }
  throw new BodyTooLargeError(limit)
}
