/**
 * Clients that stay: those waiting for a change of a transfer and those that are sent each. How many
 * there may be is bounded, in all and from one address, each for itself, so that there is always room for
 * requests that are answered at once; all of them end when the server does.
 */
import { Admission } from '../../core/http/admission.js'
import { BusyError } from './busy.js'
import type { Id, TransferService, TransferView } from '../model.js'
import type { StreamLimits } from './options.js'

export class Streams {
  readonly limits: StreamLimits
  readonly #closing = new AbortController()
  readonly #waiting: Admission
  readonly #open: Admission

  constructor(limits: StreamLimits) {
    this.limits = limits
    this.#waiting = new Admission({
      maxConnections: limits.maxWaiting,
      maxConnectionsPerAddress: limits.maxWaitingPerAddress,
    })
    this.#open = new Admission({
      maxConnections: limits.maxStreams,
      maxConnectionsPerAddress: limits.maxStreamsPerAddress,
    })
  }

  get closing(): AbortSignal {
    return this.#closing.signal
  }

  close(): void {
    this.#closing.abort()
  }

  /** What gives the place back. Throws BusyError when there is none. */
  enter(address: string): () => void {
    const leave = this.closing.aborted ? undefined : this.#open.enter(address)
    if (leave !== undefined) return leave
    throw new BusyError('Too many clients are sent events; poll instead, or end some streams')
  }

  /**
   * Resolves when the transfer is as `isAwaited` wants it or gone, after `ms`, or when the client left.
   * Throws BusyError when too many wait: answered at once, a client that waits would be one that polls
   * without a pause.
   */
  async wait(
    service: TransferService,
    id: Id,
    isAwaited: (transfer: TransferView) => boolean,
    { ms, address, gone }: Wait,
  ): Promise<void> {
    const leave = this.#waiting.enter(address)
    if (leave === undefined) {
      throw new BusyError('Too many clients wait for changes; ask without wait, once a second')
    }
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
      leave()
    }
  }
}

interface Wait {
  readonly ms: number
  /** Of the client. */
  readonly address: string
  /** The client has left. */
  readonly gone: AbortSignal
}
