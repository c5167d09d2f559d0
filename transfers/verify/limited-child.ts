/**
 * A program that reads what a stranger wrote: with little memory and time, no network, no right to
 * gain rights, no environment, one open file, and gone when we are. Debian's util-linux has all the
 * tools; where the kernel permits no namespaces to us it goes without that one.
 */
import { spawn } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { GiB, MiB } from '../../core/units.js'

export interface Limits {
  readonly addressSpace: number
  readonly cpuSeconds: number
  readonly outputSize: number
  /** By the wall clock. */
  readonly timeoutMs: number
  /** For our own look at tables of the image, of which there may be any number. */
  readonly mapMs: number
}

/** transfer-lifecycle: 1 GiB, 30 s. 10 TiB in clusters of 64 KiB have 1.3 GB of tables. The rest is far above what any good image takes. */
export const VERIFY_LIMITS: Limits = {
  addressSpace: GiB,
  cpuSeconds: 30,
  outputSize: MiB,
  timeoutMs: 120_000,
  mapMs: 60_000,
}

export interface ChildResult {
  readonly status: number | undefined
  readonly signal: NodeJS.Signals | undefined
  readonly stdout: string
  /** Its beginning. */
  readonly stderr: string
  readonly endedBy: 'itself' | 'timeout' | 'output'
}

/** The machine lacks what is needed, or storage does not answer: says nothing about the image. */
export class VerificationError extends Error {
  override readonly name = 'VerificationError'
}

/** Administrators' tools are not in everybody's PATH. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const MAX_ERROR_SIZE = 4096
/** Standard streams, the image, and what the loader and qemu's event loop need. */
const MAX_FILES = 64
/** Of each thread, taken from the address space. */
const STACK_SIZE = 2 * MiB

/** The program sees the file `fd` as /proc/self/fd/3. Throws VerificationError. */
export async function runLimited(
  program: string,
  args: readonly string[],
  fd: number,
  limits: Limits,
): Promise<ChildResult> {
  const path = process.env['PATH'] ?? DEFAULT_PATH
  for (const tool of ['prlimit', 'setpriv', program]) await checkInstalled(tool, path)
  const isolated = await namespaceCommand(path)
  const line = [...isolated, ...limitCommand(limits), program, ...args]
  return collect(line, path, fd, limits)
}

function limitCommand({ addressSpace, cpuSeconds }: Limits): string[] {
  return [
    ...['setpriv', '--no-new-privs', '--pdeathsig', 'KILL', '--'],
    'prlimit',
    `--as=${addressSpace}`,
    // The first one is told by SIGXCPU, and so from everything else that kills.
    `--cpu=${cpuSeconds}:${cpuSeconds + 5}`,
    ...['--fsize=0', '--core=0', `--nofile=${MAX_FILES}`, `--stack=${STACK_SIZE}`, '--'],
  ]
}

/** A network namespace of its own, whose only device is down; plain users need one of users for it. */
async function namespaceCommand(path: string): Promise<string[]> {
  for (const flags of ['--net', '--user --map-current-user --net', '--user --net']) {
    const line = ['unshare', ...flags.split(' '), '--']
    if (await canRun([...line, 'true'], path)) return line
  }
  return []
}

function canRun([program = '', ...args]: readonly string[], path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore', env: cleanEnvironment(path) })
    child.once('error', () => resolve(false))
    child.once('close', (status) => resolve(status === 0))
  })
}

function collect(
  [command = '', ...args]: readonly string[],
  path: string,
  fd: number,
  { outputSize, timeoutMs }: Limits,
): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe', fd],
      env: cleanEnvironment(path),
      cwd: '/',
    })
    const state: { endedBy: ChildResult['endedBy'] } = { endedBy: 'itself' }
    const end = (reason: 'timeout' | 'output'): void => {
      if (state.endedBy === 'itself') state.endedBy = reason
      child.kill('SIGKILL')
      // Not to wait for whoever else has them.
      child.stdout?.destroy()
      child.stderr?.destroy()
    }
    const timer = setTimeout(() => end('timeout'), timeoutMs)
    const stdout = textOf(child.stdout, outputSize, () => end('output'))
    const stderr = textOf(child.stderr, MAX_ERROR_SIZE, () => undefined)
    child.once('error', (cause) => {
      clearTimeout(timer)
      reject(new VerificationError(`cannot run ${command}: ${cause.message}`, { cause }))
    })
    child.once('close', (status, signal) => {
      clearTimeout(timer)
      const { endedBy } = state
      const how = { status: status ?? undefined, signal: signal ?? undefined, endedBy }
      resolve({ ...how, stdout: stdout(), stderr: stderr() })
    })
  })
}

/** Keeps at most `limit` bytes, and says when there are more. */
function textOf(stream: Readable | null, limit: number, onMore: () => void): () => string {
  const chunks: Buffer[] = []
  let room = limit
  stream?.on('data', (chunk: Buffer) => {
    if (chunk.length > room) onMore()
    chunks.push(chunk.subarray(0, room))
    room -= Math.min(room, chunk.length)
  })
  return () => Buffer.concat(chunks).toString('utf8')
}

function cleanEnvironment(path: string): NodeJS.ProcessEnv {
  // Each of qemu's threads reserved 128 MiB of address space, and a few more than usual would fail.
  return { PATH: path, LC_ALL: 'C', MALLOC_ARENA_MAX: '1' }
}

async function checkInstalled(program: string, path: string): Promise<void> {
  for (const directory of path.split(':')) {
    const isHere = await access(join(directory, program), constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isHere) return
  }
  throw new VerificationError(`${program} is not installed`)
}
