/**
 * Permission to use one image, with what was done under it. It knows the operations that run and what
 * connections have opened for it, and ends both when it is canceled.
 */
import { RateLimiter } from '../rate/rate-limiter.js'
import type { Share } from '../rate/share.js'
import { ByteRanges } from './byte-ranges.js'
import type { TicketDefinition, TicketOp } from './definition.js'
import {
  TicketCanceledError,
  TicketDeniedError,
  TicketExpiredError,
  TransferBrokenError,
  UnfinishedError,
} from './errors.js'
import { MAX_RANGES, Unfinished } from './unfinished.js'

/** Seconds of a clock that never goes back, with an arbitrary origin. */
export type Clock = () => number

export const monotonicSeconds: Clock = () => performance.now() / 1000

/** What a connection has opened for the ticket. */
export interface TicketContext {
  close(): Promise<void>
}

/** One piece of work under a ticket. Its owner must end it. */
export interface TicketUse {
  /** Aborted with TicketCanceledError when the ticket is. */
  readonly signal: AbortSignal
  /** Bytes [offset, offset + size) are done: a sign of life (expiry); counts as its kind says. */
  progress(offset: number, size: number): void
  /** Idempotent. */
  end(): void
}

export type UseKind =
  /** Moves data: the ticket is active, ranges count as transferred, the end is activity. */
  | 'operation'
  /** Reads the image and sends none of it: the ticket is active as above, but nothing is moved. */
  | 'inspection'
  /** Keeps the image open for a request, which may still be refused: no sign of life by itself. */
  | 'hold'

export interface TicketOptions {
  readonly isSigned?: boolean
  /** Shared with other tickets. */
  readonly rates?: RateLimiter
  /** Of the ticket whose place it takes, or of one that another process had. */
  readonly unfinished?: Unfinished
  /** And that is all there is to know. */
  readonly isRecalled?: boolean
}

/** `expires` must fit in 31 bits for the engine. */
const MAX_SECONDS = 2 ** 31 - 1

export class Ticket {
  readonly definition: TicketDefinition
  /** Bytes that may be accessed, as a number that offsets can be compared with. */
  readonly limit: number
  /** Its rights come from a token; its id is no secret and opens nothing. */
  readonly isSigned: boolean
  /** How fast its bodies may move. */
  readonly rate: Share
  readonly #clock: Clock
  readonly #contexts = new Set<TicketContext>()
  readonly #transferred = new ByteRanges()
  readonly #unfinished: Unfinished
  readonly #isRecalled: boolean
  readonly #canceling = new AbortController()
  #moved = 0
  #inspected = 0
  #operations = 0
  #holds = 0
  #expires: number
  /** Of a signed ticket: the end, in seconds of the clock, that no activity puts off. */
  #deadline = Infinity
  #lastActivity: number
  #lost: TransferBrokenError | undefined
  #isBroken = false
  #isLossTold = false
  #whenUnused: (() => void)[] = []

  constructor(
    definition: TicketDefinition,
    clock: Clock = monotonicSeconds,
    {
      isSigned = false,
      rates = new RateLimiter(),
      unfinished,
      isRecalled = false,
    }: TicketOptions = {},
  ) {
    this.#unfinished = unfinished ?? new Unfinished({ mustEmpty: definition.replaces })
    this.#isRecalled = isRecalled
    // Whatever it was that failed, and is gone since.
    if (this.#unfinished.isLost) this.#lost = new TransferBrokenError(undefined)
    // What was seen of it from outside.
    if (!isRecalled) {
      for (const [offset, size] of definition.missing) this.#unfinished.lack(offset, size)
    }
    this.definition = definition
    this.rate = rates.share(definition.maxBytesPerSecond)
    this.isSigned = isSigned
    this.limit = Number(
      definition.size > Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : definition.size,
    )
    this.#clock = clock
    this.#lastActivity = clock()
    this.#expires = this.#lastActivity + definition.timeout
    if (isSigned) this.#deadline = this.#expires
  }

  /** Bytes moved by all operations, each time they were. */
  get moved(): number {
    return this.#moved
  }

  get isActive(): boolean {
    return this.#operations > 0
  }

  get isCanceled(): boolean {
    return this.#canceling.signal.aborted
  }

  /** Connections that have the image open. */
  get connections(): number {
    return this.#contexts.size
  }

  /** Nobody uses it now. */
  get isUnused(): boolean {
    return this.#operations + this.#holds === 0
  }

  get isExpired(): boolean {
    return this.secondsLeft <= 0
  }

  get secondsLeft(): number {
    return this.#expires - this.#clock()
  }

  mayWrite(): boolean {
    return this.definition.ops.includes('write')
  }

  /** Throws the reason why not. `write` implies `read`. */
  authorize(op: TicketOp): void {
    if (this.isCanceled) throw new TicketCanceledError()
    if (this.isExpired) throw new TicketExpiredError()
    const { ops } = this.definition
    if (!ops.includes('write') && !(op === 'read' && ops.includes('read'))) {
      throw new TicketDeniedError(`the ticket does not allow ${op}`)
    }
    this.throwIfLost(op)
  }

  /**
   * What authorize() has allowed may be forbidden since: no answer may say that all is well. Throws
   * TransferBrokenError.
   */
  throwIfLost(op: TicketOp): void {
    if ((op === 'write' || this.#isBroken) && this.#lost !== undefined) throw this.#lost
  }

  /** Registers what a connection opened, before it is opened. Throws TicketCanceledError. */
  attach(context: TicketContext): void {
    if (this.isCanceled) throw new TicketCanceledError()
    this.#contexts.add(context)
  }

  detach(context: TicketContext): void {
    this.#contexts.delete(context)
  }

  begin(kind: UseKind): TicketUse {
    if (this.isCanceled) throw new TicketCanceledError()
    const isOperation = kind !== 'hold'
    const moves = kind === 'operation'
    if (isOperation) this.#operations++
    else this.#holds++
    let isEnded = false
    return {
      signal: this.#canceling.signal,
      progress: (offset, size) => {
        if (moves) this.#moved += size
        if (kind === 'inspection') this.#inspected += size
        if (moves && this.definition.ops.length <= 1) this.#transferred.add(offset, size)
        this.#renew()
      },
      end: () => {
        if (isEnded) return
        isEnded = true
        if (isOperation) this.#operations--
        else this.#holds--
        if (isOperation && !this.isCanceled) this.touch()
        this.#announceUnused()
      },
    }
  }

  /** Somebody uses the ticket: neither idle nor about to expire. */
  touch(): void {
    this.#lastActivity = this.#clock()
    this.#renew()
  }

  /** What changes that began and failed would have written, and nobody has since. */
  get unfinished(): Unfinished {
    return this.#unfinished
  }

  /** Sets the lifetime, also to less; 0 expires the ticket now. `timeout` itself stays. */
  extend(seconds: number): void {
    this.#expires = this.#clock() + seconds
  }

  /** A signed ticket was renewed by a later token: it ends `seconds` from now, if that is later. */
  prolong(seconds: number): void {
    this.#deadline = Math.max(this.#deadline, this.#clock() + seconds)
    this.#expires = this.#deadline
  }

  /** No write or flush is accepted from now on. */
  loseWrites(cause: unknown): void {
    this.#lost ??= new TransferBrokenError(cause)
    this.#unfinished.noteLost()
  }

  /** The same for reads: what was written and is lost must not be read as if it never was. */
  breakOff(cause: unknown): void {
    this.loseWrites(cause)
    this.#isBroken = true
  }

  /**
   * For who removes the ticket, and with it what is known: throws when writes are lost. Closing flushes,
   * so it may have happened just now, after somebody has asked. Who says nothing of it is told once;
   * `knows` whether it is known, for who may not have got the answer: told as often as it is not, and
   * so is that changes are unfinished.
   */
  tellLoss(knows?: boolean): void {
    if (knows === true) return
    const { total: missing } = this.#unfinished
    const isLost = this.#lost !== undefined
    if (knows === false && (missing > 0 || isLost)) throw new UnfinishedError({ missing, isLost })
    if (this.#lost === undefined || this.#isLossTold) return
    this.#isLossTold = true
    throw this.#lost
  }

  /** Aborted with TicketCanceledError when the ticket is. */
  get canceled(): AbortSignal {
    return this.#canceling.signal
  }

  /** Starts the end: nothing new begins, what runs is told to stop. Idempotent. */
  cancel(): void {
    if (this.isCanceled) return
    const reason = new TicketCanceledError()
    this.#canceling.abort(reason)
    this.rate.end(reason)
  }

  /** Resolves with true when nobody uses it any more, with false after `ms`. */
  unused(ms: number): Promise<boolean> {
    if (this.isUnused) return Promise.resolve(true)
    return new Promise((resolve) => {
      const settle = (isUnused: boolean): void => {
        clearTimeout(timer)
        this.#whenUnused = this.#whenUnused.filter((one) => one !== onUnused)
        resolve(isUnused)
      }
      const onUnused = (): void => settle(true)
      const timer = setTimeout(() => settle(false), ms)
      this.#whenUnused.push(onUnused)
    })
  }

  /** Closes what connections have opened: the volume can be deactivated afterwards. */
  async release(): Promise<void> {
    await Promise.all([...this.#contexts].map((context) => context.close()))
  }

  /**
   * The info of GET /tickets/{id}: these keys and integers only (control-api.md, 4), and what the engine
   * does not ask for: that a ticket is signed, that it is limited, that data may be lost or missing.
   */
  info(): Record<string, unknown> {
    const { definition } = this
    const { transferId, filename, ops } = definition
    const { bytesPerSecond } = this.rate
    const missing = this.#unfinished.ranges(MAX_RANGES)
    return {
      active: this.isActive,
      canceled: this.isCanceled,
      connections: this.connections,
      expires: Math.min(Math.floor(this.#expires), MAX_SECONDS),
      idle_time: this.isActive ? 0 : Math.floor(this.#clock() - this.#lastActivity),
      inactivity_timeout: definition.inactivityTimeout,
      ops,
      size: definition.size,
      sparse: definition.sparse,
      dirty: definition.dirty,
      timeout: definition.timeout,
      url: definition.url,
      uuid: definition.id,
      ...(transferId === '' ? {} : { transfer_id: transferId }),
      ...(filename === undefined ? {} : { filename }),
      ...(ops.length <= 1 ? { transferred: this.#transferred.total } : {}),
      ...(this.#inspected > 0 ? { inspected: this.#inspected } : {}),
      ...(this.isSigned ? { signed: true } : {}),
      ...(this.#lost === undefined ? {} : { broken: true }),
      ...(this.#isRecalled ? { recalled: true } : {}),
      ...(this.#unfinished.total > 0 ? { unfinished: this.#unfinished.total } : {}),
      ...(this.#unfinished.pending > 0 ? { pending: this.#unfinished.pending } : {}),
      ...(missing.length > 0 ? { missing } : {}),
      ...(bytesPerSecond > 0 ? { max_bytes_per_second: bytesPerSecond } : {}),
    }
  }

  /** An extension is never shortened. */
  #renew(): void {
    const renewed = Math.max(this.#expires, this.#clock() + this.definition.timeout)
    this.#expires = Math.min(renewed, this.#deadline)
  }

  #announceUnused(): void {
    if (!this.isUnused) return
    for (const announce of this.#whenUnused) announce()
  }
}
