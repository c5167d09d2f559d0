/** Drives every transfer that is this instance's, from its start to its end, and again after a crash. */
import type { Id } from '../model.js'
import type { Context } from './context.js'
import { finishCreation, finishGrowth, finishRemoval } from './disk-work.js'
import { Driver } from './driver.js'
import { forgetFinished } from './expiry.js'
import { Lease, type LeaseOptions } from './lease.js'
import { newMemory } from './memory.js'
import { breakLooseLocks, continueDisks, stopOrphans } from './recovery.js'

export type ManagerOptions = Omit<Context, 'token' | 'requireLease' | 'changed'> &
  Pick<LeaseOptions, 'name' | 'callMs' | 'onOver'>

/** Renewals that may fail before the lease ends. */
const RENEWALS_PER_LEASE = 5

export class Manager {
  readonly #context: Context
  readonly #lease: Lease
  readonly #drivers = new Map<Id, Driver>()
  readonly #listeners = new Set<(id: Id) => void>()
  readonly #versions = new Map<Id, number>()
  readonly #endTimers = new Map<string, () => void>()
  readonly #work = new Set<Promise<unknown>>()
  #isStopped = false

  constructor({ name, callMs, onOver, ...options }: ManagerOptions) {
    const { store, timers } = options
    this.#lease = new Lease({ store, name, callMs, onOver, leaseMs: timers.leaseMs })
    this.#context = {
      ...options,
      token: this.#lease.token,
      requireLease: () => this.#lease.require(),
      changed: (id) => this.#notify(id),
    }
  }

  /** Of this instance, for records it makes. */
  get token(): Id {
    return this.#lease.token
  }

  /** Resolves when what a crash has left is in hand: only then may clients come. */
  async start(): Promise<void> {
    const { timers } = this.#context
    await this.#lease.begin()
    await this.#claim()
    await breakLooseLocks(this.#context)
    await this.#try('left-over NBD servers', stopOrphans(this.#context))
    await this.#try('expiry', forgetFinished(this.#context))
    this.#every('scan', timers.pollMs, () => this.#scan())
    this.#every('expiry', timers.expiryMs, () => forgetFinished(this.#context))
    const renewalMs = timers.leaseMs / RENEWALS_PER_LEASE
    this.#every('lease', renewalMs, () => this.#lease.renew())
    // Apart: a renewal waits for no claim.
    this.#every('claim', renewalMs, () => this.#claim())
  }

  /** Transfers stay as they are; another instance, or this one's next process, goes on. */
  async stop(): Promise<void> {
    this.#isStopped = true
    for (const end of this.#endTimers.values()) end()
    const stopped = [...this.#drivers.values()].map((driver) => driver.stop())
    // Their steps end, but for verifications that run: the next process begins the others anew.
    this.#context.verifier.stop()
    await Promise.all(stopped)
    await Promise.allSettled(this.#work)
    await this.#lease.end()
  }

  /** A client has done something: the next step is due now, if it is for this instance. */
  wake(id: Id): void {
    this.#drivers.get(id)?.wake()
    this.#notify(id)
  }

  /** A transfer of this instance that is new. */
  drive(id: Id): void {
    this.#drive(id, false)
    this.#notify(id)
  }

  /** Makes the volume of a disk that was stored as locked by 'creation' and owned by `token`. */
  createVolume(diskId: Id): Promise<void> {
    return this.#track(finishCreation(this.#context, diskId))
  }

  /** Grows the volume of a disk that was stored as locked by 'growth' and owned by `token`. */
  growVolume(diskId: Id): Promise<void> {
    return this.#track(finishGrowth(this.#context, diskId))
  }

  /** Removes volume and disk, which was stored as locked by 'removal' and owned by `token`. */
  removeVolume(diskId: Id): Promise<void> {
    return this.#track(finishRemoval(this.#context, diskId))
  }

  /** Calls back after durable changes of any transfer, whichever instance has made them. */
  onChange(listener: (id: Id) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  #drive(id: Id, isRecovered: boolean): void {
    if (this.#isStopped || this.#drivers.has(id)) return
    const memory = newMemory(this.#context.clock.elapsed(), isRecovered)
    const driver = new Driver(this.#context, id, memory, () => this.#drivers.delete(id))
    this.#drivers.set(id, driver)
    driver.wake()
  }

  /** What nobody drives any more: after a restart what this instance has driven before. */
  async #claim(): Promise<void> {
    const { transfers, disks } = await this.#context.store.leases.claim(this.token)
    for (const id of transfers) this.#drive(id, true)
    void this.#track(continueDisks(this.#context, disks))
  }

  /** Other instances answer clients as well, and change what is driven here. */
  async #scan(): Promise<void> {
    const { store } = this.#context
    const found = await store.versions()
    const known = new Set(found.map(({ id }) => id))
    for (const { id, version, owner, isFinal } of found) {
      const before = this.#versions.get(id)
      this.#versions.set(id, version)
      if (before !== undefined && before !== version) this.#notify(id)
      if (owner !== this.token || isFinal) continue
      const driver = this.#drivers.get(id)
      if (driver === undefined) this.#drive(id, true)
      else if (driver.version < version) driver.wake()
    }
    for (const id of this.#versions.keys()) {
      if (known.has(id)) continue
      this.#versions.delete(id)
      this.#notify(id)
    }
  }

  #notify(id: Id): void {
    for (const listener of this.#listeners) listener(id)
  }

  /** Again and again, each time after the last has ended. */
  #every(name: string, ms: number, work: () => Promise<void>): void {
    const arm = (): void => {
      if (this.#isStopped) return
      this.#endTimers.set(
        name,
        this.#context.clock.setTimer(ms, () => {
          void this.#track(this.#try(name, work())).finally(arm)
        }),
      )
    }
    arm()
  }

  /** Of no consequence but a line in the log: the next time comes. */
  async #try(what: string, work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (error) {
      this.#context.logger.error({ err: error, what }, 'housekeeping failed')
    }
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#work.add(work)
    const forget = (): void => void this.#work.delete(work)
    work.then(forget, forget)
    return work
  }
}
