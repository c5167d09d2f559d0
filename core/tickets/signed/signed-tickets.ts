/**
 * Tickets out of tokens: what a server needs to take them, in one object. A token is verified once; its
 * ticket is then one of the store's, with progress, connections and an end.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { Route } from '../../http/routes.js'
import type { Logger } from '../../log.js'
import type { DefinitionOptions, TicketOp } from '../definition.js'
import { TicketDeniedError } from '../errors.js'
import { UNKNOWN, type TicketStore } from '../store.js'
import type { Ticket } from '../ticket.js'
import { checkTimes, parseClaims, type Claims, type ClaimsOptions } from './claims.js'
import { splitAudience, type SignedTicketsConfig } from './config.js'
import type { ShownToken } from './credentials.js'
import { TokenRefusedError } from './errors.js'
import { KeyRing } from './key-ring.js'
import { revocationRoutes } from './revocation-routes.js'
import { Revocations } from './revocations.js'
import { parseHeader, verifyToken } from './token.js'
import type { VerificationKey } from './verification-key.js'

export interface SignedTicketsOptions {
  readonly config: SignedTicketsConfig['signed_tickets']
  /** How URLs are checked; what only installed tickets may name is refused here. */
  readonly definitions: DefinitionOptions
  readonly store: TicketStore
  readonly logger: Logger
  /** Seconds since 1970. */
  readonly now?: () => number
}

/** A token that was good when it was first seen. */
interface KnownToken {
  readonly claims: Claims
  readonly key: VerificationKey
  readonly ticket: Ticket
}

/** A ticket has a few tokens at most: one and its renewals. */
const TOKENS_PER_TICKET = 2

export class SignedTickets {
  readonly #options: SignedTicketsOptions
  readonly #claims: ClaimsOptions
  readonly #keys: KeyRing
  readonly #revocations: Revocations
  readonly #now: () => number
  /** By a keyed digest, as the store finds tickets. The least recently used is first. */
  readonly #known = new Map<string, KnownToken>()
  readonly #digestKey = randomBytes(32)

  /** Rejects when keys or revocations cannot be read. */
  static async open(options: SignedTicketsOptions): Promise<SignedTickets> {
    const { config, logger, now = wallClock } = options
    const revocations = await Revocations.open({
      file: config.revocations_file === '' ? undefined : config.revocations_file,
      keptFor: config.max_lifetime + 2 * config.clock_tolerance,
      logger,
      now,
    })
    return new SignedTickets(options, await KeyRing.open(config.keys, logger), revocations, now)
  }

  private constructor(
    options: SignedTicketsOptions,
    keys: KeyRing,
    revocations: Revocations,
    now: () => number,
  ) {
    const { config, definitions } = options
    this.#options = options
    this.#keys = keys
    this.#revocations = revocations
    this.#now = now
    this.#claims = {
      ...definitions,
      audience: splitAudience(config.audience),
      maxLifetime: config.max_lifetime,
      clockTolerance: config.clock_tolerance,
    }
  }

  /** Rejects when the user the server is now can no longer do what it must. */
  async proveAccess(): Promise<void> {
    await this.#keys.proveAccess()
    await this.#revocations.proveAccess()
  }

  /** For the control service. */
  routes(removeTimeout: number): Route[] {
    const { store } = this.#options
    return revocationRoutes({
      store,
      removeTimeout,
      revocations: this.#revocations,
      now: this.#now,
    })
  }

  revoke(transferId: string): Promise<void> {
    return this.#revocations.add(transferId)
  }

  /** Looks for changed keys now. */
  reload(): Promise<void> {
    return this.#keys.reload()
  }

  close(): void {
    this.#keys.close()
  }

  /**
   * The ticket of a token: at once when the token is known, else when it has been verified. Throws or
   * rejects with an error of 403 or 503.
   */
  authorize(shown: ShownToken, op: TicketOp, logger: Logger): Ticket | Promise<Ticket> {
    const digest = this.#digest(shown.token)
    const known = this.#known.get(digest)
    if (known === undefined || known.ticket.isCanceled) {
      return this.#verify(shown, digest, op, logger)
    }
    try {
      this.#check(known, shown)
    } catch (error) {
      if (error instanceof TokenRefusedError) this.#known.delete(digest)
      throw this.#denied(error, logger)
    }
    this.#remember(digest, known)
    known.ticket.authorize(op)
    return known.ticket
  }

  async #verify(shown: ShownToken, digest: string, op: TicketOp, logger: Logger): Promise<Ticket> {
    try {
      const header = parseHeader(shown.token)
      const key = this.#keys.select(header)
      const payload = await verifyToken(shown.token, header.algorithm, key)
      const claims = parseClaims(payload, this.#claims)
      // Nothing is awaited from here on: what is checked is what is admitted.
      this.#check({ claims, key }, shown)
      const ticket = this.#admit(claims)
      ticket.authorize(op)
      this.#remember(digest, { claims, key, ticket })
      return ticket
    } catch (error) {
      throw this.#denied(error, logger)
    }
  }

  /** Everything that may have changed since the token was verified. Throws TokenRefusedError. */
  #check({ claims, key }: Pick<KnownToken, 'claims' | 'key'>, { transferId }: ShownToken): void {
    checkTimes(claims, this.#now(), this.#claims.clockTolerance)
    if (!this.#keys.has(key)) throw new TokenRefusedError('the key has been removed')
    if (transferId !== undefined && transferId !== claims.transferId) {
      throw new TokenRefusedError('the path names another transfer')
    }
    if (this.#revocations.has(claims.transferId)) throw new TokenRefusedError('it is revoked')
  }

  #admit({ definition, expires }: Claims): Ticket {
    const { store, config } = this.#options
    // The store counts whole seconds of a clock of its own; the end itself is checked each time.
    const left = expires + this.#claims.clockTolerance - this.#now()
    return store.admitSigned({ ...definition, timeout: Math.ceil(left) }, config.max_tickets)
  }

  #remember(digest: string, token: KnownToken): void {
    this.#known.delete(digest)
    this.#known.set(digest, token)
    if (this.#known.size <= TOKENS_PER_TICKET * this.#options.config.max_tickets) return
    const [oldest = ''] = this.#known.keys()
    this.#known.delete(oldest)
  }

  /** A client is told nothing that it could learn from. */
  #denied(error: unknown, logger: Logger): unknown {
    if (!(error instanceof TokenRefusedError)) return error
    logger.warn({ reason: error.message }, 'signed ticket refused')
    return new TicketDeniedError(UNKNOWN, { cause: error })
  }

  #digest(token: string): string {
    return createHmac('sha256', this.#digestKey).update(token).digest('base64')
  }
}

function wallClock(): number {
  return Date.now() / 1000
}
