/** What the processes of the crash tests agree on. */

/** How the client, or the verification, ends the transfer. */
export type Plan = 'finalize' | 'refuse' | 'cancel'

export interface Outcome {
  /** Moments that the process could have died in. */
  readonly points: number
  readonly phase: string
  /** Of the disk; 'gone' when there is none. */
  readonly status: string
  readonly ticket?: string | undefined
}

/** No part of it is like another, or empty. */
export function imageOf(size = 65536): Buffer {
  return Buffer.from(
    Array.from({ length: size }, (_, index) => ((index * 7 + (index >> 8)) % 255) + 1),
  )
}
