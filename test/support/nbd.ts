/** Real NBD servers, ended with the test. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { until } from './wait.js'

export interface NbdServer {
  readonly url: string
  readonly socket: string
  /** As a crash would. */
  kill(): Promise<void>
  /** In an orderly way: bitmaps are stored. */
  stop(): Promise<void>
  pause(): void
  resume(): void
}

/** `qemu-nbd` on a Unix socket; `args` end with the image. */
export function qemuNbd(t: Test, args: readonly string[], socket?: string): Promise<NbdServer> {
  return serve(t, 'qemu-nbd', (path) => ['--persistent', '--shared=8', '-k', path, ...args], socket)
}

/** `qemu-nbd` on TCP. */
export async function qemuNbdTcp(
  t: Test,
  { host, port }: { host: string; port: number },
  args: readonly string[],
): Promise<void> {
  const all = ['--persistent', '--shared=8', '-b', host, '-p', String(port), ...args]
  await start(t, 'qemu-nbd', all, { host, port })
}

/** `nbdkit` on a Unix socket. */
export function nbdkit(t: Test, args: readonly string[], socket?: string): Promise<NbdServer> {
  return serve(t, 'nbdkit', (path) => ['--foreground', '-U', path, ...args], socket)
}

/** `nbdkit` that insists on TLS. */
export async function nbdkitTls(
  t: Test,
  port: number,
  certificates: string,
  args: readonly string[],
): Promise<void> {
  const tls = ['--tls=require', `--tls-certificates=${certificates}`]
  const all = ['--foreground', '-i', '127.0.0.1', '-p', String(port), ...tls, ...args]
  await start(t, 'nbdkit', all, { host: '127.0.0.1', port })
}

async function serve(
  t: Test,
  program: string,
  args: (socket: string) => string[],
  given: string | undefined,
): Promise<NbdServer> {
  const directory = mkdtempSync(join(tmpdir(), 'imageio-nbd-'))
  const socket = given ?? join(directory, 'socket')
  rmSync(socket, { force: true })
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const child = await start(t, program, args(socket), { path: socket })
  return {
    url: `nbd:unix:${socket}`,
    socket,
    kill: () => kill(child),
    stop: () => kill(child, 'SIGTERM'),
    pause: () => stopThreads(child),
    resume: () => void child.kill('SIGCONT'),
  }
}

/** One thread takes the signal, and the others go on until it has: on a busy machine for a while. */
function stopThreads(child: ChildProcess): void {
  child.kill('SIGSTOP')
  const tasks = `/proc/${child.pid ?? 0}/task`
  const isStopped = (task: string): boolean =>
    readFileSync(`${tasks}/${task}/stat`, 'latin1').split(') ').at(-1)?.startsWith('T') === true
  const deadline = performance.now() + 5000
  while (!readdirSync(tasks).every(isStopped)) {
    if (performance.now() > deadline) throw new Error('the NBD server does not stop')
  }
}

/** Resolves when it listens. */
async function start(
  t: Test,
  program: string,
  args: readonly string[],
  target: net.NetConnectOpts,
): Promise<ChildProcess> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  t.teardown(() => kill(child))
  await until(`${program} listens`, () => {
    if (hasEnded(child)) throw new Error(`${program} ended: ${said}`)
    return accepts(target)
  })
  return child
}

async function kill(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  if (hasEnded(child)) return
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  child.kill(signal)
  await exited
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

function accepts(target: net.NetConnectOpts): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(target)
    probe.once('error', () => resolve(false))
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
  })
}
