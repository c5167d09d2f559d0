/** Programs of the machine that tests use when they are there. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, createReadStream } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const DIRECTORIES = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']

/** For `skip`: false when all programs are here, else which is not. */
export function without(...programs: string[]): string | false {
  const missing = programs.find((program) => !isInstalled(program))
  return missing === undefined ? false : `${missing} is not installed`
}

function isInstalled(program: string): boolean {
  return DIRECTORIES.some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Runs a program to its end; rejects with what it said when it fails. Resolves with its output. */
export async function run(
  program: string,
  args: readonly string[],
  { timeoutMs = 60_000, cwd }: { timeoutMs?: number; cwd?: string } = {},
): Promise<string> {
  const env = { ...process.env, PATH: DIRECTORIES.join(':') }
  const options = { timeout: timeoutMs, env, maxBuffer: 1e8, ...(cwd === undefined ? {} : { cwd }) }
  const { stdout } = await promisify(execFile)(program, args, options)
  return stdout
}

/** Digest of a file, or of its first bytes. */
export async function sha256(file: string, size?: number): Promise<string> {
  const digest = createHash('sha256')
  if (size === 0) return digest.digest('hex')
  const part = size === undefined ? {} : { end: size - 1 }
  const chunks = createReadStream(file, { highWaterMark: 1024 * 1024, ...part })
  for await (const chunk of chunks) digest.update(chunk as Buffer)
  return digest.digest('hex')
}
