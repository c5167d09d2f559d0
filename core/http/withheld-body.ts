/**
 * A request body that the native front holds back, as a source of bytes: filled into the caller's
 * buffers on the front's threads. Reads as RequestBody does.
 */
import type { BodyOptions, PaceableBody } from './body.js'
import { BodyTimeoutError, IncompleteBodyError } from './errors.js'
import { ClientWatch } from './watch.js'

/** A body that is withheld from its request, or response. */
export interface Withheld {
  /**
   * Fills the target; fewer bytes only when no more come, or when it lingers and some have been there
   * for a moment. Rejects when there are none.
   */
  readonly read: (target: Buffer, lingers: boolean) => Promise<number>
  /** Settles a read with what has come. */
  readonly cancel: () => void
  readonly length: number
}

export class WithheldBody implements PaceableBody {
  readonly #source: Withheld
  readonly #options: BodyOptions
  readonly #watch: ClientWatch
  readonly #onAbort = (): void => this.#fail(this.#options.signal.reason as Error)
  readonly #onClosed = (): void => this.#over.abort()
  readonly #over = new AbortController()
  #left: number
  #isStarted = false
  #error: Error | undefined
  #ahead: { readonly target: Buffer; readonly read: Promise<number> } | undefined

  constructor(source: Withheld, options: BodyOptions) {
    this.#source = source
    this.#options = options
    this.#left = source.length
    this.#watch = new ClientWatch(options, () => this.#fail(new BodyTimeoutError()))
    options.signal.addEventListener('abort', this.#onAbort)
    options.closed?.addEventListener('abort', this.#onClosed)
    if (options.signal.aborted || options.closed?.aborted === true) this.#over.abort()
  }

  /** All of it was taken: what comes next on the connection is another request. */
  get isTaken(): boolean {
    return this.#left === 0
  }

  /** What is read ahead was asked for when there was no limit. */
  get awaited(): number {
    return this.#ahead === undefined && this.#error === undefined ? this.#left : 0
  }

  get over(): AbortSignal {
    return this.#over.signal
  }

  async read(target: Buffer, lingerMs?: number): Promise<number> {
    const lingers = lingerMs !== undefined
    if (this.#options.signal.aborted) this.#onAbort()
    this.#throwIfFailed()
    if (!this.#isStarted) {
      this.#isStarted = true
      this.#options.onStart()
    }
    if (this.#left === 0 || target.length === 0) return 0
    const wanted = Math.min(target.length, this.#left)
    const size = await this.#fill(target, lingers)
    // Of a read that lingers the next one tells whether that was all.
    if (size < wanted && !(lingers && size > 0)) this.#error ??= new IncompleteBodyError()
    this.#left -= size
    this.#options.onReceived(size)
    // What has come is handed over; the next read tells why there is no more.
    if (size > 0) return size
    throw this.#error ?? new IncompleteBodyError()
  }

  /** The front goes on into it without waiting to be asked, which costs it a turn of two threads. */
  ahead(target: Buffer): void {
    if (this.#error !== undefined || this.#ahead !== undefined || !this.#isStarted) return
    const read = this.#source.read(target, false)
    read.catch(() => undefined) // told by the read of it, if there is one
    this.#ahead = { target, read }
  }

  async drop(): Promise<void> {
    if (this.#ahead === undefined) return
    this.#source.cancel()
    await this.#ahead.read.catch(() => undefined)
    this.#ahead = undefined
  }

  release(): void {
    this.#watch.stop()
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#options.closed?.removeEventListener('abort', this.#onClosed)
  }

  /** The connection has gone, whatever became of it: no bytes. */
  async #fill(target: Buffer, lingers: boolean): Promise<number> {
    this.#watch.wait()
    try {
      return await this.#take(target, lingers)
    } catch (cause) {
      this.#error ??= new IncompleteBodyError({ cause })
      return 0
    } finally {
      this.#watch.done()
    }
  }

  #take(target: Buffer, lingers: boolean): Promise<number> {
    const ahead = this.#ahead
    if (ahead === undefined) return this.#source.read(target, lingers)
    if (!isSameMemory(ahead.target, target)) throw new Error('something else was read ahead')
    this.#ahead = undefined
    return ahead.read
  }

  #throwIfFailed(): void {
    if (this.#error !== undefined) throw this.#error
  }

  #fail(error: Error): void {
    this.#error ??= error
    this.#over.abort()
    this.#source.cancel()
  }
}

function isSameMemory(a: Buffer, b: Buffer): boolean {
  return a.buffer === b.buffer && a.byteOffset === b.byteOffset && a.length === b.length
}
