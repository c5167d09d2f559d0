/** What the process remembers of a transfer that it drives. After a restart it begins anew. */
export interface Memory {
  /** Since when it is driven here. */
  readonly since: number
  /** It was not begun by this process, whose hosts may be about to start as well. */
  readonly isRecovered: boolean
  unreachableSince: number | undefined
  failedTickets: number
  nbdRestarts: number
  nbdRestartedAt: number
  proxyCheckedAt: number
  pauseLoggedAt: number
  failedStops: number
  failedVerifications: number
  failedRemovals: number
}

export function newMemory(now: number, isRecovered: boolean): Memory {
  return {
    since: now,
    isRecovered,
    unreachableSince: undefined,
    failedTickets: 0,
    nbdRestarts: 0,
    nbdRestartedAt: 0,
    proxyCheckedAt: 0,
    pauseLoggedAt: now,
    failedStops: 0,
    failedVerifications: 0,
    failedRemovals: 0,
  }
}
