/** Real NBD servers, ended with the test. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { until } from './wait.js'

export interface NbdServer {
  readonly url: string
  readonly socket: string
  readonly pid: number
  /** As a crash would. */
  kill(): Promise<void>
  pause(): void
  resume(): void
}

/** `qemu-nbd` on a Unix socket; `args` end with the image. */
export function qemuNbd(t: Test, args: readonly string[], socket?: string): Promise<NbdServer> {
  return serve(t, 'qemu-nbd', (path) => ['--persistent', '--shared=8', '-k', path, ...args], socket)
}

/** `nbdkit` on a Unix socket. */
export function nbdkit(t: Test, args: readonly string[], socket?: string): Promise<NbdServer> {
  return serve(t, 'nbdkit', (path) => ['--foreground', '-U', path, ...args], socket)
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
  const child = spawn(program, args(socket), { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const kill = (): Promise<void> => {
    child.kill('SIGKILL')
    return exited
  }
  t.teardown(async () => {
    await kill()
    rmSync(directory, { recursive: true, force: true })
  })
  await until(`${program} listens`, () => {
    if (hasEnded(child)) throw new Error(`${program} ended: ${said}`)
    return accepts(socket)
  })
  return {
    url: `nbd:unix:${socket}`,
    socket,
    pid: child.pid ?? -1,
    kill,
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
  }
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(socket)
    probe.once('error', () => resolve(false))
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
  })
}
