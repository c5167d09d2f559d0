/**
 * Locks over byte ranges of one image. First come, first served: a request waits for every earlier
 * one that it conflicts with, granted or not, so that a stream of shared locks cannot starve an
 * exclusive one. A request costs one pass over those present, which are a handful per connection.
 */
export type LockMode = 'shared' | 'exclusive'
export type Release = () => void

interface Request {
  readonly start: number
  readonly end: number
  readonly mode: LockMode
  /** Earlier requests still present that conflict with this one. */
  blockers: number
  grant: () => void
}

export class RangeLock {
  /** In order of arrival. */
  readonly #requests = new Set<Request>()

  /** Requests granted or waiting. */
  get size(): number {
    return this.#requests.size
  }

  /**
   * Locks [start, end); `end` may be Infinity. Resolves with the function that releases it, which
   * may be called more than once. Rejects with the signal's reason when that aborts the wait.
   */
  async acquire(
    start: number,
    end: number,
    mode: LockMode,
    signal?: AbortSignal,
  ): Promise<Release> {
    signal?.throwIfAborted()
    const request: Request = { start, end, mode, blockers: 0, grant: () => undefined }
    for (const earlier of this.#requests) if (conflict(earlier, request)) request.blockers++
    this.#requests.add(request)
    if (request.blockers > 0) await this.#wait(request, signal)
    return () => this.#remove(request)
  }

  #wait(request: Request, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#remove(request)
        reject(abortReason(signal))
      }
      request.grant = () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      }
      signal?.addEventListener('abort', abort, { once: true })
    })
  }

  #remove(request: Request): void {
    let isLater = false
    for (const other of this.#requests) {
      if (other === request) isLater = true
      else if (isLater && conflict(request, other) && --other.blockers === 0) other.grant()
    }
    this.#requests.delete(request)
  }
}

function conflict(a: Request, b: Request): boolean {
  if (a.mode === 'shared' && b.mode === 'shared') return false
  return a.start < b.end && b.start < a.end
}

function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason
  return reason instanceof Error ? reason : new DOMException('The wait was aborted', 'AbortError')
}
