/**
 * A qemu-nbd that need not be our child: it outlives the service that started it. A process id says
 * nothing after a while, so a process is ours only if its command line names our socket.
 */
import { readFile, readdir } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { servedPath } from './arguments.js'
import { NbdServerError } from './nbd-server-error.js'
import type { ServerFiles } from './server-files.js'

const POLL_MS = 20
/** After SIGKILL, which storage that hangs delays. */
const KILL_TIMEOUT_MS = 5000

const SOCKET = '--socket='

/** Undefined when none serves there, and its clients can know that. */
export async function findServer(files: ServerFiles): Promise<number | undefined> {
  const pid = Number((await readText(files.pidFile))?.trim())
  if (await isServer(pid, files)) return pid
  // It may not have come to write its pid, or somebody tidied up.
  const other = (await servers()).find((server) => server.socket === files.socket)?.pid
  if (other === undefined && isPid(pid)) await ended(pid)
  return other
}

/**
 * A process that ends has no command line a little before its connections are closed: who asks their
 * other ends in between would hear that all is well.
 */
async function ended(pid: number): Promise<void> {
  const state = await processState(pid)
  if (state === undefined || (await readText(`/proc/${pid}/cmdline`)) !== '') return
  await hasEnded(pid, state.startTime, KILL_TIMEOUT_MS)
}

export interface RunningServer {
  readonly pid: number
  readonly socket: string
  /** Of the image, if the server was started here. */
  readonly path: string | undefined
}

/** All of this machine, whoever started them. */
export async function servers(): Promise<RunningServer[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const found = await Promise.all(pids.map(serverOf))
  return found.filter((server) => server !== undefined)
}

/**
 * Throws NbdServerError when it cannot be ended. It flushes what it has, unless that takes longer than
 * `timeoutMs`, and it may be killed.
 */
export async function endServer(
  pid: number,
  files: ServerFiles,
  { timeoutMs, mayKill }: { readonly timeoutMs: number; readonly mayKill: boolean },
): Promise<void> {
  const startTime = (await processState(pid))?.startTime
  // Only now is it known that this start time is the server's.
  if (startTime === undefined || !(await isServer(pid, files))) return
  const kill = mayKill ? ([['SIGKILL', KILL_TIMEOUT_MS]] as const) : []
  for (const [signal, patience] of [['SIGTERM', timeoutMs], ...kill] as const) {
    if (!send(pid, signal) || (await hasEnded(pid, startTime, patience))) return
  }
  throw new NbdServerError(`qemu-nbd, process ${pid}, does not end`)
}

/** False when it is gone. */
function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw new NbdServerError(`cannot end qemu-nbd, process ${pid}`, { cause: error })
  }
}

async function hasEnded(pid: number, startTime: string, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const state = await processState(pid)
    if (state === undefined || state.startTime !== startTime || state.hasClosedAll) return true
    if (performance.now() > deadline) return false
    await sleep(POLL_MS)
  }
}

interface ProcessState {
  /** With the process id, unique since the machine started. */
  readonly startTime: string
  /** It only waits for its parent. The command line is gone before the image is closed. */
  readonly hasClosedAll: boolean
}

/** Of proc_pid_stat(5). */
async function processState(pid: number): Promise<ProcessState | undefined> {
  const text = await readText(`/proc/${pid}/stat`)
  if (text === undefined) return undefined
  // The name before may hold anything, parentheses too; the next field, the state, is the third.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const field = (number: number): string => fields[number - 3] ?? ''
  const isZombie = ['Z', 'X', 'x'].includes(field(3))
  // Threads share the open files, and the first one may end before the others.
  return { startTime: field(22), hasClosedAll: isZombie && Number(field(20)) <= 1 }
}

async function isServer(pid: number, { socket }: ServerFiles): Promise<boolean> {
  return isPid(pid) && (await serverOf(pid))?.socket === socket
}

function isPid(pid: number): boolean {
  return Number.isSafeInteger(pid) && pid > 1
}

/** A process that has ended, and that nobody has waited for, has no command line. */
async function serverOf(pid: number): Promise<RunningServer | undefined> {
  const [program = '', ...args] = ((await readText(`/proc/${pid}/cmdline`)) ?? '').split('\0')
  if (basename(program) !== 'qemu-nbd') return undefined
  const socket = args.find((arg) => arg.startsWith(SOCKET))?.slice(SOCKET.length)
  return socket === undefined ? undefined : { pid, socket, path: servedPath(args) }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}
