/** What every step of a transfer works with. */
import { ServiceError } from '../../core/errors.js'
import type { Logger } from '../../core/log.js'
import type { Clock } from '../clock.js'
import type { Hosts } from '../hosts/hosts.js'
import type { Id } from '../model.js'
import type { Store } from '../store/store.js'
import type { NbdServers, Verifier, Volumes } from './ports.js'

/** Milliseconds, but where the name says otherwise. */
export interface Timers {
  /** Between two looks at a transfer. */
  readonly pollMs: number
  /** Lifetime of a ticket, and of each renewal. */
  readonly ticketSeconds: number
  /** A ticket with less than this left is renewed. */
  readonly renewalMs: number
  /** How long a host may be out of reach. */
  readonly graceMs: number
  /** Between two looks whether the proxy still has the ticket. */
  readonly proxyCheckMs: number
  /** Between two lines of the log about a transfer that is paused. */
  readonly pauseLogMs: number
  readonly successRetentionMs: number
  readonly failureRetentionMs: number
  /** Between two looks for finished transfers to forget. */
  readonly expiryMs: number
  /** Another instance takes over what was not renewed for this time. */
  readonly leaseMs: number
}

export interface Policies {
  /** Remove a disk whose image was refused, which otherwise stays, `illegal`. */
  readonly deleteInvalidDisks: boolean
  /** Keep as `illegal` a disk that held an image before a cancelled upload. */
  readonly protectExistingDisks: boolean
}

export interface Context {
  readonly store: Store
  readonly hosts: Hosts
  readonly volumes: Volumes
  readonly verifier: Verifier
  readonly nbd: NbdServers
  readonly clock: Clock
  readonly logger: Logger
  readonly timers: Timers
  readonly policies: Policies
  /** Of this process, in leases. */
  readonly token: Id
  /** Throws LeaseLostError unless the lease outlasts a call to a host. */
  readonly requireLease: () => void
  /** A transfer has changed durably. */
  readonly changed: (id: Id) => void
}

/** Somebody else drives the transfer now, or may do so any moment. */
export class LeaseLostError extends ServiceError {
  readonly code = 'ERR_LEASE_LOST'
  readonly statusCode = 503
}

/** What follows a step. */
export type Next =
  /** The next step, at once. */
  | 'again'
  /** The same step after the poll interval. */
  | 'later'
  /** The same step when a reminder is due, or somebody acts. */
  | 'paused'
  /** Nothing, it has ended. */
  | 'idle'
