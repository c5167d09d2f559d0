/**
 * The door for whoever moves bytes of a body, however it does that: it asks before each piece how much
 * of it may move now.
 */
export interface Pace {
  /** While this is false nothing is ever held back, and nobody needs to ask. */
  readonly isLimited: boolean
  /**
   * Resolves, when some bytes may move, with their number: at least 1 and at most `upTo`, which is
   * positive. For a large piece it is asked again. Rejects with the signal's reason, or with the one the
   * transfer was ended with.
   */
  take(upTo: number, signal: AbortSignal): Promise<number>
  /** So many bytes that were taken did not move. */
  giveBack(size: number): void
}
