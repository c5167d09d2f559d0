/**
 * Checks names and passwords. Each check costs 0.1 s of a core by intent, so a right one is remembered
 * for a while (clients with Basic send it with each request), and few run at a time.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { Users } from '../../password-file.js'
import type { Failures } from './failures.js'
import { TooManyFailuresError } from './errors.js'

const REMEMBER_MS = 5 * 60_000
const MAX_REMEMBERED = 1024
/** Each takes 32 MiB and one of the four threads that file I/O needs as well. */
const MAX_CHECKS = 2
/** Who comes behind so many is told to come again. */
const MAX_WAITING = 64

export class Logins {
  readonly #users: Users
  readonly #failures: Failures
  readonly #now: () => number
  readonly #key = randomBytes(32)
  readonly #remembered = new Map<string, number>()
  #running = 0
  readonly #waiting: (() => void)[] = []

  constructor(users: Users, failures: Failures, now: () => number) {
    this.#users = users
    this.#failures = failures
    this.#now = now
  }

  /** Throws TooManyFailuresError without looking when the address has failed too often. */
  async isRight(user: string, password: string, address: string): Promise<boolean> {
    const mark = await this.#mark(user, password)
    if ((this.#remembered.get(mark) ?? 0) > this.#now()) return true
    this.#checkFailures(address)
    if (this.#waiting.length >= MAX_WAITING) throw new TooManyFailuresError(1)
    return this.#inTurn(async () => {
      // Others of this address may have failed meanwhile: many tries at once are no way around.
      this.#checkFailures(address)
      const isRight = await this.#users.verify(user, password)
      if (isRight) this.#remember(mark)
      else this.#failures.add(address)
      return isRight
    })
  }

  #checkFailures(address: string): void {
    const seconds = this.#failures.waitSeconds(address)
    if (seconds > 0) throw new TooManyFailuresError(seconds)
  }

  /** Of no use to who reads our memory without the key, or after the password changed. */
  async #mark(user: string, password: string): Promise<string> {
    const facts = JSON.stringify([await this.#users.version(), user, password])
    return createHmac('sha256', this.#key).update(facts).digest('base64')
  }

  #remember(mark: string): void {
    this.#remembered.set(mark, this.#now() + REMEMBER_MS)
    const [oldest] = this.#remembered.keys()
    if (this.#remembered.size > MAX_REMEMBERED && oldest !== undefined) {
      this.#remembered.delete(oldest)
    }
  }

  async #inTurn<T>(check: () => Promise<T>): Promise<T> {
    // Who ends hands the place over instead of giving it back.
    if (this.#running >= MAX_CHECKS) await new Promise<void>((go) => this.#waiting.push(go))
    else this.#running++
    try {
      return await check()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}
