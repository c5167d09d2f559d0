/** What the process remembers of a transfer that it drives. After a restart it begins anew. */
import { Watched } from './watched.js'

/** Times are those of Clock.elapsed(). */
export interface Memory {
  /** Since when it is driven here. */
  readonly since: number
  /** It was not begun by this process, whose hosts may be about to start as well. */
  readonly isRecovered: boolean
  /** Of moments that are stored. */
  readonly renewed: Watched
  readonly extended: Watched
  readonly updated: Watched
  unreachableSince: number | undefined
  failedTickets: number
  nbdRestarts: number
  nbdRestartedAt: number
  proxyCheckedAt: number
  pauseLoggedAt: number
  failedStops: number
  /** Since when the end waits for requests of an upload. */
  activeSince: number | undefined
  failedVerifications: number
  failedRemovals: number
}

export function newMemory(now: number, isRecovered: boolean): Memory {
  return {
    since: now,
    isRecovered,
    // When it was, nobody knows: the ticket may end any moment.
    renewed: new Watched(Infinity),
    extended: new Watched(),
    updated: new Watched(),
    unreachableSince: undefined,
    failedTickets: 0,
    nbdRestarts: 0,
    nbdRestartedAt: -Infinity,
    proxyCheckedAt: -Infinity,
    pauseLoggedAt: now,
    failedStops: 0,
    activeSince: undefined,
    failedVerifications: 0,
    failedRemovals: 0,
  }
}
