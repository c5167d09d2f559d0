/**
 * Clients that stay: those waiting for a change of a transfer and those that are sent each. How many
 * there may be is bounded, and all of them end when the server does.
 */
import type { Id, TransferService, TransferView } from '../model.js'
import type { StreamLimits } from './options.js'

export class Streams {
  readonly limits: StreamLimits
  readonly #closing = new AbortController()
  #waiting = 0
  #open = 0

  constructor(limits: StreamLimits) {
    this.limits = limits
  }

  get closing(): AbortSignal {
    return this.#closing.signal
  }

  close(): void {
    this.#closing.abort()
  }

  /** Gives the place back; undefined when there is none. */
  enter(): (() => void) | undefined {
    if (this.#open >= this.limits.maxStreams || this.closing.aborted) return undefined
    this.#open++
    return () => {
      this.#open--
    }
  }

  /**
   * Resolves when the transfer is as `isAwaited` wants it or gone, after `ms`, when the client left, or
   * at once when too many wait: then a client that waits is one that polls.
   */
  async wait(
    service: TransferService,
    id: Id,
    isAwaited: (transfer: TransferView) => boolean,
    ms: number,
    gone: AbortSignal,
  ): Promise<void> {
    if (this.#waiting >= this.limits.maxWaiting) return
    this.#waiting++
    const end = AbortSignal.any([gone, this.closing, AbortSignal.timeout(ms)])
    let unwatch = (): void => undefined
    try {
      await new Promise<void>((resolve, reject) => {
        end.addEventListener('abort', () => resolve(), { once: true })
        if (end.aborted) resolve()
        unwatch = service.watch(id, (transfer) => {
          if (transfer === undefined || isAwaited(transfer)) resolve()
        })
        // What happened before the watch began.
        service.transfer(id).then((transfer) => {
          if (transfer === undefined || isAwaited(transfer)) resolve()
        }, reject)
      })
    } finally {
      unwatch()
      this.#waiting--
    }
  }
}
