/** What the API needs to serve. */
import type { Logger } from '../../core/log.js'
import type { TlsMaterial } from '../../core/http/tls.js'
import { systemClock, type Clock } from '../clock.js'
import type { Id, TransferService } from '../model.js'
import type { Users } from '../password-file.js'
import { FAILURE_LIMITS, type FailureLimits } from './auth/failures.js'
import { SESSION_LIMITS, type SessionLimits } from './auth/sessions.js'

export interface Inventory {
  readonly dataCenter: { readonly id: Id; readonly name: string }
  readonly cluster: {
    readonly id: Id
    readonly name: string
    /** virt-v2v refuses `undefined`. */
    readonly architecture: 'x86_64' | 'aarch64' | 'ppc64' | 's390x'
    readonly cpuType: string
  }
}

/** Named as in a fresh engine: clients' examples say Default. */
export const INVENTORY: Inventory = {
  dataCenter: { id: 'b6e1a7f2-2c0b-4f2e-9a4e-6d0b7f1c5a01', name: 'Default' },
  cluster: {
    id: 'b6e1a7f2-2c0b-4f2e-9a4e-6d0b7f1c5a02',
    name: 'Default',
    architecture: 'x86_64',
    cpuType: 'Intel Nehalem Family',
  },
}

export interface StreamLimits {
  /** Clients that wait for a change. */
  readonly maxWaiting: number
  readonly maxWaitingPerAddress: number
  /** Clients that are sent events. */
  readonly maxStreams: number
  readonly maxStreamsPerAddress: number
  readonly heartbeatMs: number
  /** A stream ends after so long, whatever happens; its client connects again. */
  readonly maxStreamMs: number
  /** A transfer without a byte more for so long stands still: longer than between two looks at it. */
  readonly stillMs: number
}

export const STREAM_LIMITS: StreamLimits = {
  maxWaiting: 512,
  maxWaitingPerAddress: 96,
  maxStreams: 256,
  maxStreamsPerAddress: 96,
  heartbeatMs: 15_000,
  maxStreamMs: 60 * 60_000,
  stillMs: 3000,
}

export interface ApiOptions {
  readonly service: TransferService
  readonly users: Users
  readonly logger: Logger
  /** Without it plain HTTP, for loopback and behind a proxy that speaks TLS. */
  readonly tls?: TlsMaterial | undefined
  /** PEM of the authority that clients are to trust; anybody may have it. */
  readonly ca?: Buffer | undefined
  /** Names this service among others. */
  readonly instanceId?: Id
  readonly inventory?: Inventory
  /** Where the OVF of virtual machines goes; without it they are refused. */
  readonly vmDirectory?: string | undefined
  readonly sessions?: SessionLimits
  readonly failures?: FailureLimits
  readonly streams?: StreamLimits
  readonly maxConnections?: number
  readonly maxConnectionsPerAddress?: number
  readonly handshakeTimeoutMs?: number
  readonly clock?: Clock
}

/** With nothing left out. */
export type ApiSettings = Required<ApiOptions>

export function withDefaults(options: ApiOptions): ApiSettings {
  return {
    tls: undefined,
    ca: undefined,
    vmDirectory: undefined,
    instanceId: '8d0e7c0e-3c51-4b4f-a5d5-2f6f4a2f7e10',
    inventory: INVENTORY,
    sessions: SESSION_LIMITS,
    failures: FAILURE_LIMITS,
    streams: STREAM_LIMITS,
    maxConnections: 1024,
    maxConnectionsPerAddress: 256,
    handshakeTimeoutMs: 10_000,
    clock: systemClock,
    ...options,
  }
}
