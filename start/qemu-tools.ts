/** The programs of qemu: run to their end, and what they complain about in words for the user. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { GuestFormat } from './format.js'
import { StartError } from './start-error.js'

/** Of storage that hangs, not of a slow one: only headers are read. */
const TIMEOUT_MS = 60_000

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
