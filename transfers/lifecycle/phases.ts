/**
 * The phases of a transfer as a table: what each event means in each phase. Pure data and a pure
 * function; who causes the events, and what follows from a new phase, is elsewhere in this room.
 */
import { FaultError } from '../fault.js'
import type { Direction, Phase, TimeoutPolicy, TransferAction } from '../model.js'

/** What the service itself finds out. */
export type SystemEvent =
  /** Tickets are installed. */
  | 'prepared'
  /** There is no host, or the volume cannot be opened. Nothing was started. */
  | 'unusable'
  /** The NBD server or the ticket could not be had. */
  | 'setup failed'
  /** The ticket or the NBD server is gone for good, the host out of reach for too long. */
  | 'session lost'
  /** Nobody used the ticket for the inactivity timeout. */
  | 'inactive'
  /** After resume all is in place again. */
  | 'restored'
  | 'restore failed'
  /** The next step of a chain that waits for nothing. */
  | 'proceed'
  /** The ticket is removed, nobody can touch the image any more. */
  | 'stopped'
  /** After `stopped`, for uploads. */
  | 'verified'
  | 'refused'

export type TransferEvent = TransferAction | SystemEvent

export const TRANSFER_EVENTS = [
  ...(['extend', 'pause', 'resume', 'cancel', 'finalize'] as const),
  ...(['prepared', 'unusable', 'setup failed', 'session lost', 'inactive'] as const),
  ...(['restored', 'restore failed', 'proceed', 'stopped', 'verified', 'refused'] as const),
] satisfies readonly TransferEvent[]

export const PHASES = [
  ...(['initializing', 'transferring', 'paused_user', 'paused_system', 'resuming'] as const),
  ...(['cancelled_user', 'cancelled_system', 'finalizing_success', 'finalizing_cleanup'] as const),
  ...(['finalizing_failure', 'finished_cleanup', 'finished_success', 'finished_failure'] as const),
] satisfies readonly Phase[]

/** What the next phase depends on, besides the present one. */
export interface Kind {
  readonly direction: Direction
  readonly timeoutPolicy: TimeoutPolicy
}

/** In words of the table: a phase to go to, or nothing to do, or a refusal. */
type Cell =
  | Phase
  /** The phase stays. Events that come late, because a client was faster, end here as well. */
  | 'stay'
  /** 400: only uploads are paused. */
  | 'unpausable'
  /** 409: not in this phase. */
  | 'conflict'

type Row = Readonly<Partial<Record<TransferEvent, Cell | Readonly<Record<Direction, Cell>>>>>

const both = (upload: Cell, download: Cell): Readonly<Record<Direction, Cell>> => ({
  upload,
  download,
})

/** An upload may be continued, a download is simply started again. */
const LOST = both('paused_system', 'cancelled_system')

const INACTIVE: Readonly<Record<TimeoutPolicy, Readonly<Record<Direction, Phase>>>> = {
  legacy: { upload: 'paused_system', download: 'cancelled_system' },
  pause: { upload: 'paused_system', download: 'paused_system' },
  cancel: { upload: 'cancelled_system', download: 'cancelled_system' },
}

const STOPPABLE: Row = { cancel: 'cancelled_user', finalize: 'finalizing_success' }
const PAUSABLE: Row = {
  ...STOPPABLE,
  pause: both('paused_user', 'unpausable'),
  resume: 'conflict',
}
const PAUSED: Row = { ...STOPPABLE, pause: both('stay', 'unpausable'), resume: 'resuming' }
/** On the way to an end: cancel and finalize come too late to matter, and are no error. */
const ENDING: Row = { pause: both('conflict', 'unpausable'), resume: 'conflict' }
const FINAL: Row = { pause: both('stay', 'unpausable'), resume: 'conflict' }

/** What is not listed stays. */
const TABLE: Readonly<Record<Phase, Row>> = {
  initializing: {
    ...PAUSABLE,
    prepared: 'transferring',
    unusable: 'finished_failure',
    'setup failed': LOST,
  },
  // `inactive` is looked up by policy.
  transferring: { ...PAUSABLE, 'session lost': LOST },
  paused_user: PAUSED,
  paused_system: PAUSED,
  resuming: { ...PAUSABLE, restored: 'transferring', 'restore failed': LOST },
  cancelled_user: { ...ENDING, proceed: 'finalizing_cleanup' },
  cancelled_system: { ...ENDING, proceed: 'finalizing_failure' },
  finalizing_success: {
    ...ENDING,
    stopped: both('stay', 'finished_success'),
    verified: both('finished_success', 'stay'),
    refused: both('finalizing_failure', 'stay'),
  },
  finalizing_cleanup: { ...ENDING, stopped: 'finished_cleanup' },
  finalizing_failure: { ...ENDING, stopped: 'finished_failure' },
  finished_cleanup: { ...ENDING, proceed: 'finished_failure' },
  finished_success: FINAL,
  finished_failure: FINAL,
}

export function isFinal(phase: Phase): boolean {
  return phase === 'finished_success' || phase === 'finished_failure'
}

/** The phase after the event, which may be the same. Throws FaultError for what is refused. */
export function nextPhase(phase: Phase, event: TransferEvent, kind: Kind): Phase {
  if (phase === 'transferring' && event === 'inactive') {
    return INACTIVE[kind.timeoutPolicy][kind.direction]
  }
  const entry = TABLE[phase][event] ?? 'stay'
  const cell = typeof entry === 'string' ? entry : entry[kind.direction]
  if (cell === 'stay') return phase
  if (cell === 'unpausable') {
    throw new FaultError(400, 'Operation Failed', `A ${kind.direction} cannot be paused.`)
  }
  if (cell === 'conflict') {
    throw new FaultError(409, 'Operation Failed', `Cannot ${event} in phase ${phase}.`)
  }
  return cell
}
