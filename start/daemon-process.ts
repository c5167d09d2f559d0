/** The daemon as a child. */
import type { ControlClient } from '../core/control/control-client.js'
import { startChild, untilReady, type Child } from './child.js'

export interface DaemonOptions {
  readonly program: string
  readonly confDir: string
  readonly client: ControlClient
  /** Ends the wait for the daemon. */
  readonly signal: AbortSignal
  /** Gets what the daemon logs, as it comes. */
  readonly onLog?: (text: string) => void
}

const START_TIMEOUT_MS = 20_000
/** More than its shutdown_timeout, so the daemon is killed only if it hangs. */
const STOP_TIMEOUT_MS = 10_000

/** Resolves when the daemon answers. Throws StartError. */
export async function startDaemon(options: DaemonOptions): Promise<Child> {
  const { confDir, client, signal } = options
  const name = 'the daemon'
  const args = ['--conf-dir', confDir]
  const child = startChild({ ...options, name, args, stopTimeoutMs: STOP_TIMEOUT_MS })
  await untilReady(child, {
    name,
    isReady: () => answers(client),
    timeoutMs: START_TIMEOUT_MS,
    signal,
  })
  return child
}

async function answers(client: ControlClient): Promise<boolean> {
  return client.list().then(
    () => true,
    () => false,
  )
}
