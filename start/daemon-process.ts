/** The daemon as a child: started, waited for, watched, stopped. */
import { spawn, type ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ControlClient } from '../core/control/control-client.js'
import { StartError } from './start-error.js'

export interface DaemonProcess {
  readonly pid: number
  /** Rejects with StartError when the daemon ends without being asked to; never resolves. */
  readonly died: Promise<never>
  /** Asks the daemon to end and waits. */
  stop(): Promise<void>
}

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
const POLL_MS = 50
/** More than its shutdown_timeout, so the daemon is killed only if it hangs. */
const STOP_TIMEOUT_MS = 10_000
const LOG_LINES = 20

/**
 * Becomes the program, which the kernel ends when its parent dies, even by SIGKILL. setpriv belongs to
 * util-linux; where it is missing, or is busybox's, the program goes without.
 */
const END_WITH_PARENT = `
setpriv --pdeathsig TERM -- true 2>/dev/null && exec setpriv --pdeathsig TERM -- "$@"
exec "$@"`

/** Resolves when the daemon answers. Throws StartError. */
export async function startDaemon(options: DaemonOptions): Promise<DaemonProcess> {
  const { program, confDir, client, signal, onLog } = options
  const child = spawn('sh', ['-c', END_WITH_PARENT, 'sh', program, '--conf-dir', confDir], {
    stdio: ['ignore', 'ignore', 'pipe'],
    // Its own group: Ctrl-C reaches us alone, and we end the daemon in order.
    detached: true,
  })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text)
      .split('\n')
      .slice(-LOG_LINES - 1)
      .join('\n')
    onLog?.(text)
  })
  const state = { isStopping: false }
  const died = new Promise<never>((_resolve, reject) => {
    const fail = (reason: string, cause?: unknown): void => {
      if (!state.isStopping)
        reject(new StartError(`the daemon ${reason}\n${log}`.trimEnd(), { cause }))
    }
    child.on('error', (cause) => fail(`cannot be started: ${cause.message}`, cause))
    child.on('close', (code, signal) =>
      fail(signal ? `was killed by ${signal}` : `ended with status ${code ?? '?'}`),
    )
  })
  died.catch(() => undefined) // whoever races against it hears of it
  const stop = async (): Promise<void> => {
    state.isStopping = true
    await stopChild(child)
  }
  try {
    await Promise.race([died, untilReady(client, signal)])
  } catch (error) {
    await stop()
    throw error
  }
  return { pid: child.pid ?? 0, died, stop }
}

async function untilReady(client: ControlClient, signal: AbortSignal): Promise<void> {
  const giveUpAt = Date.now() + START_TIMEOUT_MS
  for (;;) {
    try {
      await client.list()
      return
    } catch (cause) {
      if (Date.now() > giveUpAt) {
        throw new StartError(`the daemon is not ready after ${START_TIMEOUT_MS / 1000} s`, {
          cause,
        })
      }
    }
    await sleep(POLL_MS, undefined, { signal })
  }
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    child.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    child.kill('SIGTERM')
  })
}
