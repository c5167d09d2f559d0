/**
 * Who is logged in: random tokens, kept as digests only, forgotten when idle or when there are too
 * many. A restart forgets all; clients log in again by themselves.
 */
import { createHash, randomBytes } from 'node:crypto'

export interface SessionLimits {
  /** Unused for so long, a token is forgotten. */
  readonly idleMs: number
  /** The least recently used go first. */
  readonly maxSessions: number
}

/** As with an engine. */
export const SESSION_LIMITS: SessionLimits = { idleMs: 30 * 60_000, maxSessions: 4096 }

const TOKEN_BYTES = 32

export interface Login {
  readonly user: string
  /** By which it was opened; see Users.credential(). */
  readonly credential: string | undefined
}

interface Session {
  readonly login: Login
  readonly idleMs: number
  expiresAt: number
}

export class Sessions {
  readonly #limits: SessionLimits
  readonly #now: () => number
  /** By digest, the least recently used first: a lookup's time tells nothing about a token. */
  readonly #sessions = new Map<string, Session>()

  constructor(limits: SessionLimits, now: () => number) {
    this.#limits = limits
    this.#now = now
  }

  /** A new token. */
  open(login: Login, idleMs = this.#limits.idleMs): string {
    const token = randomBytes(TOKEN_BYTES).toString('base64url')
    const limit = Math.min(idleMs, this.#limits.idleMs)
    this.#put(digest(token), { login, idleMs: limit, expiresAt: 0 })
    this.#forget()
    return token
  }

  /** Whose token it is; undefined when it is unknown or was idle for too long. */
  login(token: string): Login | undefined {
    const key = digest(token)
    const session = this.#sessions.get(key)
    if (session === undefined) return undefined
    this.#sessions.delete(key)
    if (session.expiresAt <= this.#now()) return undefined
    this.#put(key, session)
    return session.login
  }

  close(token: string): void {
    this.#sessions.delete(digest(token))
  }

  #put(key: string, session: Session): void {
    session.expiresAt = this.#now() + session.idleMs
    this.#sessions.set(key, session)
  }

  #forget(): void {
    const now = this.#now()
    for (const [key, { expiresAt }] of this.#sessions) {
      const isTooMany = this.#sessions.size > this.#limits.maxSessions
      if (!isTooMany && expiresAt > now) return
      this.#sessions.delete(key)
    }
  }
}

function digest(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
