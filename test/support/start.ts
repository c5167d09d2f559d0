/** `npm start` as its user has it: a directory, a command, lines to paste. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { until, within } from './wait.js'

const MAIN = join(process.cwd(), 'dist/start/main.js')

/** One that whoever runs the tests has chosen; npm's own would lie in TMPDIR. */
const COMPILE_CACHE =
  process.env['NODE_COMPILE_CACHE'] === undefined ? { NODE_DISABLE_COMPILE_CACHE: '1' } : {}

export interface Started {
  readonly child: ChildProcess
  readonly output: () => string
  readonly errors: () => string
  /** Exit status. */
  readonly ended: Promise<number | null>
}

/** `npm start` with its run directory under `dir`, which is also where the user is. */
export function start(
  t: Test,
  dir: string,
  args: string[],
  env: Readonly<Record<string, string>> = {},
): Started {
  return started(t, dir, process.execPath, [MAIN, ...args], env)
}

/** By npm, in the checkout; what must be built is. */
export function startByNpm(t: Test, dir: string, args: string[]): Started {
  return started(t, dir, 'npm', ['start', '--ignore-scripts', '--', ...args])
}

function started(
  t: Test,
  dir: string,
  program: string,
  args: string[],
  more: Readonly<Record<string, string>> = {},
): Started {
  const npm = program === 'npm'
  const env = {
    ...process.env,
    TMPDIR: join(dir, 'tmp'),
    npm_lifecycle_event: 'test',
    NODE_OPTIONS: '',
    ...COMPILE_CACHE,
    ...more,
  }
  const child = spawn(program, args, { cwd: npm ? process.cwd() : dir, env })
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (errors += text))
  const ended = once(child, 'close').then(([status]) => status as number | null)
  t.teardown(async () => {
    child.kill('SIGTERM')
    await within('end', 15_000, ended)
  })
  return { child, output: () => output, errors: () => errors, ended }
}

/** Short, since the path of a socket holds 107 bytes. */
export function userDir(t: Test): string {
  const dir = mkdtempSync('/tmp/imageio-start-')
  mkdirSync(join(dir, 'tmp'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return dir
}

export async function ready({ output, errors, child }: Started): Promise<string> {
  return until(
    'instructions',
    () => {
      if (child.exitCode !== null) throw new Error(errors())
      return output().includes('Stop with Ctrl-C') && output()
    },
    { timeoutMs: 30_000 },
  )
}

/** The line to paste behind a name, run by a shell in `dir`. */
export function paste(dir: string, text: string, name: string): string {
  const line = new RegExp(`^ *${name}:? +(.*)$`, 'm').exec(text)?.[1] ?? 'false'
  return execFileSync('sh', ['-c', line], {
    cwd: dir,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
}

/** Processes it started, in the order of their ids. */
export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

/** The child that runs dist/NAME/main.js; 0 when there is none. */
export function serverOf(pid: number, name: 'daemon' | 'proxy' | 'transfers'): number {
  const isIt = (child: number): boolean =>
    readFileSync(`/proc/${child}/cmdline`, 'utf8').includes(`/dist/${name}/main.js`)
  return childrenOf(pid).find(isIt) ?? 0
}

/** Also true of one that has ended and nobody has asked for: its parent may be a careless one. */
export function hasEnded(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return true
  return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
}
