/**
 * Checks names and passwords. Each check costs 0.1 s of a core by intent, so few run at a time, and what
 * came of it is remembered for a while: clients with Basic send a right password with each request, and
 * a program with an old one repeats it.
 *
 * Failures make an address slow, and do not lock it out, as it may be that of many: behind a translation
 * of addresses an attacker could otherwise keep everybody out. While there are too many of them
 *
 * - what is remembered is still found, but no faster than LOOKUPS allows: at full speed that would be a
 *   means to try passwords, without the price of a check, until one is found;
 * - what is not remembered is still checked, no faster than CHECKS allows, which is as many as are free.
 *
 * What is remembered is so for the address that was right or wrong: others learn nothing from it.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { Admission } from '../../../core/http/admission.js'
import { networkOf } from '../../../core/http/network.js'
import type { Clock } from '../../clock.js'
import type { Users } from '../../password-file.js'
import type { Failures } from './failures.js'
import { TooManyFailuresError } from './errors.js'
import { Paces } from './paces.js'
import { Recent } from './recent.js'

/** As long as a token that nobody uses lives. A password that is changed is forgotten at once. */
const REMEMBER_MS = 30 * 60_000
const MAX_REMEMBERED = 4096
/** Each takes 32 MiB and one of the four threads that file I/O needs as well. */
const MAX_CHECKS = 2
/** Who comes behind so many, of all addresses and of its own, is told to come again. */
const MAX_WAITING = { maxConnections: 64, maxConnectionsPerAddress: 32 }

/** 10 a second: as many as some clients that poll need. */
const LOOKUPS = { restMs: 100, maxWaiting: 64 }
/** 12 a minute. */
const CHECKS = { restMs: 5000, maxWaiting: 8 }

export class Logins {
  readonly #users: Users
  readonly #failures: Failures
  readonly #key = randomBytes(32)
  readonly #right: Recent
  readonly #wrong: Recent
  readonly #lookups: Paces
  readonly #checks: Paces
  readonly #places = new Admission(MAX_WAITING)
  #running = 0
  readonly #waiting: (() => void)[] = []

  constructor(users: Users, failures: Failures, clock: Clock) {
    this.#users = users
    this.#failures = failures
    const now = (): number => clock.now()
    this.#right = new Recent(MAX_REMEMBERED, REMEMBER_MS, now)
    this.#wrong = new Recent(MAX_REMEMBERED, REMEMBER_MS, now)
    this.#lookups = new Paces(LOOKUPS, clock)
    this.#checks = new Paces(CHECKS, clock)
  }

  /** Throws TooManyFailuresError when so many wait that this one is not looked at. */
  async isRight(user: string, password: string, address: string): Promise<boolean> {
    if (this.#failures.areTooMany(address)) await this.#lookups.turn(address)
    const mark = await this.#mark(user, password, address)
    const known = this.#known(mark)
    if (known !== undefined) return known
    const check = async (): Promise<boolean> => {
      const isRight = await this.#users.verify(user, password)
      if (isRight) this.#right.add(mark)
      else {
        this.#wrong.add(mark)
        this.#failures.add(address)
      }
      return isRight
    }
    const first = this.#failures.areTooMany(address)
      ? undefined
      : await this.#inTurn(address, async () => {
          // Others of this address may have failed meanwhile: many tries at once are no way around.
          const isSlow = this.#failures.areTooMany(address)
          return this.#known(mark) ?? (isSlow ? undefined : await check())
        })
    if (first !== undefined) return first
    await this.#checks.turn(address)
    return this.#inTurn(address, async () => this.#known(mark) ?? (await check()))
  }

  /** As Users.credential(). */
  credential(user: string): Promise<string | undefined> {
    return this.#users.credential(user)
  }

  /** Who waits is refused: the service ends. */
  close(): void {
    this.#lookups.close()
    this.#checks.close()
  }

  #known(mark: string): boolean | undefined {
    if (this.#right.has(mark)) return true
    return this.#wrong.has(mark) ? false : undefined
  }

  /** Of no use to who reads our memory without the key, or after the password changed. */
  async #mark(user: string, password: string, address: string): Promise<string> {
    const facts = [await this.#users.version(), user, password, networkOf(address)]
    return createHmac('sha256', this.#key).update(JSON.stringify(facts)).digest('base64')
  }

  async #inTurn<T>(address: string, check: () => Promise<T>): Promise<T> {
    const leave = this.#places.enter(address)
    if (leave === undefined) throw new TooManyFailuresError(1)
    try {
      // Who ends hands the place over instead of giving it back.
      if (this.#running >= MAX_CHECKS) await new Promise<void>((go) => this.#waiting.push(go))
      else this.#running++
    } finally {
      leave()
    }
    try {
      return await check()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}
