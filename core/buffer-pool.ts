/**
 * Page-aligned buffers for bulk bodies, shared by all transfers of a server. At most `maxBytes` are
 * lent at a time; who finds none waits in line, for a bounded time. Contents are not cleared: who
 * borrows one sends only what was read into it.
 */
import { ServiceError } from './errors.js'
import { allocateAligned } from '../native/index.js'

/** Kept for the next request; the rest goes back to the system so that memory falls after a peak. */
const MAX_IDLE_BUFFERS = 8

/** When the client may try again, in seconds: other transfers hand their buffers on all the time. */
const RETRY_AFTER = 5

export interface BufferPoolOptions {
  /** Bytes of one buffer, a multiple of the page size. */
  readonly bufferSize: number
  readonly maxBytes: number
  readonly waitTimeoutMs: number
}

/** More transfers than there is memory for. */
export class BuffersBusyError extends ServiceError {
  readonly code = 'ERR_BUFFERS_BUSY'
  readonly statusCode = 503
  /** Seconds. */
  readonly retryAfter = RETRY_AFTER
  constructor() {
    super('too many transfers at a time, try again later')
  }
}

export class BufferPool {
  readonly bufferSize: number
  readonly #maxBuffers: number
  readonly #waitTimeoutMs: number
  readonly #idle: Buffer[] = []
  readonly #lent = new Set<Buffer>()
  readonly #waiting = new Set<(buffer: Buffer) => void>()

  constructor({ bufferSize, maxBytes, waitTimeoutMs }: BufferPoolOptions) {
    this.bufferSize = bufferSize
    this.#maxBuffers = Math.max(1, Math.floor(maxBytes / bufferSize))
    this.#waitTimeoutMs = waitTimeoutMs
  }

  /** Buffers lent, idle, and those who wait for one: for metrics and tests. */
  get counts(): { lent: number; idle: number; waiting: number } {
    return { lent: this.#lent.size, idle: this.#idle.length, waiting: this.#waiting.size }
  }

  /** Whether somebody waits for a first buffer, who has a better claim than a second one. */
  get isAwaited(): boolean {
    return this.#waiting.size > 0
  }

  /**
   * A buffer, now or when one is released. Rejects with the signal's reason or BuffersBusyError.
   * Nobody must wait while holding a buffer: all of them might, for ever. See tryAcquire.
   */
  async acquire(signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    return this.tryAcquire() ?? this.#wait(signal)
  }

  /** A second buffer, if there is one to spare and nobody waits for a first. */
  tryAcquire(): Buffer | undefined {
    if (this.#waiting.size > 0 || this.#lent.size >= this.#maxBuffers) return undefined
    const buffer = this.#idle.pop() ?? allocateAligned(this.bufferSize)
    this.#lent.add(buffer)
    return buffer
  }

  /** Nobody may use the buffer any more, neither the kernel nor a socket. */
  release(buffer: Buffer): void {
    if (!this.#lent.has(buffer)) throw new Error('a buffer was released that is not lent')
    for (const give of this.#waiting) {
      give(buffer)
      return
    }
    this.#lent.delete(buffer)
    if (this.#idle.length < MAX_IDLE_BUFFERS) this.#idle.push(buffer)
  }

  #wait(signal: AbortSignal): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', abort)
        this.#waiting.delete(give)
      }
      const give = (buffer: Buffer) => {
        leave()
        resolve(buffer)
      }
      const abort = () => {
        leave()
        reject(signal.reason as Error)
      }
      const timer = setTimeout(() => {
        leave()
        reject(new BuffersBusyError())
      }, this.#waitTimeoutMs)
      signal.addEventListener('abort', abort, { once: true })
      this.#waiting.add(give)
    })
  }
}
