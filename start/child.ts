/** A program that serves as long as we do: started, watched, stopped, and never left behind. */
import { spawn, type ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { StartError } from './start-error.js'

export interface Child {
  readonly pid: number
  /** Rejects with StartError when it ends without being asked to; never resolves. */
  readonly died: Promise<never>
  /** The last lines it logged. */
  readonly log: () => string
  /** Asks it to end and waits. */
  stop(): Promise<void>
}

export interface ChildOptions {
  /** For messages: the daemon. */
  readonly name: string
  readonly program: string
  readonly args: readonly string[]
  /** Until it is killed, because it hangs. */
  readonly stopTimeoutMs: number
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Gets what it logs, as it comes. */
  readonly onLog?: (text: string) => void
}

export interface ReadyOptions {
  /** For messages: the daemon. */
  readonly name: string
  readonly isReady: () => Promise<boolean>
  readonly timeoutMs: number
  /** Ends the wait. */
  readonly signal: AbortSignal
}

const LOG_LINES = 20
const POLL_MS = 20

/**
 * Becomes the program, which the kernel ends when its parent dies, even by SIGKILL. setpriv belongs to
 * util-linux; where it is missing, or is busybox's, the program goes without.
 */
const END_WITH_PARENT = `
setpriv --pdeathsig TERM -- true 2>/dev/null && exec setpriv --pdeathsig TERM -- "$@"
exec "$@"`

export function startChild(options: ChildOptions): Child {
  const { name, program, args, stopTimeoutMs, env, cwd, onLog } = options
  const child = spawn('sh', ['-c', END_WITH_PARENT, 'sh', program, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env,
    cwd,
    // Its own group: Ctrl-C reaches us alone, and we end it in order.
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
        reject(new StartError(`${name} ${reason}\n${log}`.trimEnd(), { cause }))
    }
    child.on('error', (cause) => fail(`cannot be started: ${cause.message}`, cause))
    child.on('close', (code, signal) =>
      fail(signal ? `was killed by ${signal}` : `ended with status ${code ?? '?'}`),
    )
  })
  died.catch(() => undefined) // whoever races against it hears of it
  const stop = async (): Promise<void> => {
    state.isStopping = true
    await stopChild(child, stopTimeoutMs)
  }
  return { pid: child.pid ?? 0, died, log: () => log, stop }
}

/** Stops the child when it does not get ready. Throws StartError. */
export async function untilReady(child: Child, options: ReadyOptions): Promise<void> {
  const { name, isReady, timeoutMs, signal } = options
  const isOver = new AbortController()
  const poll = async (): Promise<void> => {
    const giveUpAt = Date.now() + timeoutMs
    const either = AbortSignal.any([signal, isOver.signal])
    while (!(await isReady())) {
      if (Date.now() > giveUpAt) {
        throw new StartError(`${name} is not ready after ${timeoutMs / 1000} s`)
      }
      await sleep(POLL_MS, undefined, { signal: either })
    }
  }
  try {
    await Promise.race([child.died, poll()])
  } catch (error) {
    await child.stop()
    throw error
  } finally {
    isOver.abort()
  }
}

async function stopChild(child: ChildProcess, timeoutMs: number): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    child.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    child.kill('SIGTERM')
  })
}
