/** The programs of qemu: run to their end, and what they complain about in words for the user. */
import { execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import type { GuestFormat } from './format.js'
import { StartError } from './start-error.js'

/** Of storage that hangs, not of a slow one: only headers are read. */
const TIMEOUT_MS = 60_000
/** Of complaints, which may be one for each cluster. */
const MAX_SAID = 500

/** Resolves with the output; rejects with an error that has `stderr`. Throws StartError if it is missing. */
export async function runQemuTool(
  program: string,
  args: readonly string[],
  cwd?: string,
): Promise<string> {
  try {
    const env = { ...process.env, LC_ALL: 'C' }
    const { stdout } = await promisify(execFile)(program, args, { env, cwd, timeout: TIMEOUT_MS })
    return stdout
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new StartError(
      `images that are not raw need ${program}, which is not installed (Debian: apt-get install qemu-utils); --raw serves the files' own bytes`,
      { cause },
    )
  }
}

export class Late extends Error {
  override readonly name = 'Late'
}

export interface LineWishes {
  readonly cwd: string
  readonly timeoutMs: number
  /** Asked for each line of output until it answers. */
  readonly find: (line: string) => string | undefined
}

/**
 * For output that may be long: ends the program at the first answer. Without one `said` is what the program
 * complained about. Throws Late when that takes too long.
 */
export async function findLine(
  program: string,
  args: readonly string[],
  { cwd, timeoutMs, find }: LineWishes,
): Promise<{ readonly found?: string; readonly said: string }> {
  const env = { ...process.env, LC_ALL: 'C' }
  const child = spawn(program, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  let [said, isLate] = ['', false]
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MAX_SAID)
  })
  const closed = new Promise<void>((resolve, reject) => {
    child.once('close', () => resolve()).once('error', reject)
  })
  closed.catch(() => undefined) // awaited below
  const timer = setTimeout(() => {
    isLate = true
    child.kill('SIGKILL')
  }, timeoutMs)
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const found = find(line)
      if (found !== undefined) return { found, said: '' }
    }
    await closed
  } finally {
    clearTimeout(timer)
    child.kill('SIGKILL')
  }
  if (isLate) throw new Late(`${program} takes longer than ${timeoutMs / 1000} s`)
  return {
    said: printable(
      said
        .trim()
        .replace(/^qemu-img: /, '')
        .replace(/\s*\n\s*/g, ', '),
    ),
  }
}

/** What comes before the reason: the files that were being opened, the outermost first. */
const OPENING =
  /^(qemu-(img|nbd): )?(Failed to blk_new_open '.*?': )?(Could not open ('.*?'|backing file): )*/

/** One line about an image that qemu did not open; `said` is what it wrote. */
export function qemuFailure(path: string, format: GuestFormat, said: string, cause?: unknown) {
  return new StartError(`${path}: ${reasonOf(path, format, said)}`, { cause })
}

function reasonOf(path: string, format: GuestFormat, said: string): string {
  const locked = /Is another process using the image \[(.*)\]/.exec(said)?.[1]
  if (locked !== undefined) {
    return `${printable(locked)} is in use by another program, perhaps a running virtual machine; end it first`
  }
  const [prefix = ''] = OPENING.exec(said.trim()) ?? []
  const reason = printable(
    said
      .trim()
      .slice(prefix.length)
      .replace(/\.?\s*\n\s*/g, ', '),
  )
  // The last is the one it is about: a backing file of a backing file, perhaps.
  const named = [...prefix.matchAll(/'(.*?)': /g)].at(-1)?.[1] ?? path
  const what = named === path ? `it as ${format}` : `${printable(named)}, which it needs`
  return `qemu cannot open ${what}: ${reason || 'for no reason it tells'}; --raw serves the file's own bytes`
}

/** Names in headers may hold anything. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}
