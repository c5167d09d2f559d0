/** The lease of this process, as far as it can know. */
import { randomUUID } from 'node:crypto'
import type { Id } from '../model.js'
import type { Store } from '../store/store.js'
import { LeaseLostError } from './context.js'

export interface LeaseOptions {
  readonly store: Store
  /** Of the instance; a process started later with it takes over from this one. */
  readonly name: string
  readonly leaseMs: number
  /** How long a call to a host may take: what is sent arrives while the lease lasts. */
  readonly callMs: number
  /** Called once when this process can drive nothing any more: only a new one can. */
  readonly onOver: (reason: Error) => void
}

export class Lease {
  readonly token: Id = randomUUID()
  readonly #options: LeaseOptions
  /** On the monotonic clock, from before the database was asked: early, never late. */
  #endsAt = -Infinity
  #isOver = false

  constructor(options: LeaseOptions) {
    this.#options = options
  }

  async begin(): Promise<void> {
    const { store, name, leaseMs } = this.#options
    const asked = performance.now()
    await store.leases.begin(name, this.token, leaseMs)
    this.#endsAt = asked + leaseMs
  }

  async renew(): Promise<void> {
    if (this.#isOver) return
    const { store, name, leaseMs, onOver } = this.#options
    const asked = performance.now()
    if (await store.leases.renew(name, this.token, leaseMs)) {
      this.#endsAt = asked + leaseMs
      return
    }
    this.#isOver = true
    this.#endsAt = -Infinity
    onOver(
      new Error(
        `the lease of the instance ${name} is over: another process has taken its name, or this one stood still`,
      ),
    )
  }

  /** Throws LeaseLostError unless it outlasts a call. */
  require(): void {
    if (performance.now() + this.#options.callMs < this.#endsAt) return
    throw new LeaseLostError('the lease may end before the call does')
  }

  async end(): Promise<void> {
    this.#endsAt = -Infinity
    if (this.#isOver) return
    await this.#options.store.leases.end(this.#options.name, this.token)
  }
}
