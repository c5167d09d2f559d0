/** qemu-img on a volume: it gets the open file, and no name that could become another one. */
import { spawn } from 'node:child_process'
import type { FileHandle } from 'node:fs/promises'

const MAX_SAID = 4096

const CODES = [
  [/No space left on device|Disk quota exceeded/, 'ENOSPC'],
  [/File too large|image size is too large/i, 'EFBIG'],
] as const

/** `qemu-img WORDS FILE SIZE`. Rejects with what it said, with code ENOSPC or EFBIG where that is why. */
export async function runQemuImg(
  words: readonly string[],
  size: string,
  file: FileHandle,
  signal: AbortSignal | undefined,
): Promise<void> {
  const child = spawn('qemu-img', [...words, '/proc/self/fd/3', size], {
    stdio: ['ignore', 'ignore', 'pipe', file.fd],
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    cwd: '/',
    ...(signal && { signal }),
    killSignal: 'SIGKILL',
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, MAX_SAID)
  })
  // Not before it has ended may the file be removed, also when it is killed.
  let failure: Error | undefined
  child.once('error', (error) => (failure = error))
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve))
  signal?.throwIfAborted()
  if (failure !== undefined) {
    throw new Error(`cannot run qemu-img: ${failure.message}`, { cause: failure })
  }
  if (status === 0) return
  const code = CODES.find(([text]) => text.test(said))?.[1]
  const error = new Error(`qemu-img ${words[0] ?? ''}: ${said.trim()}`)
  throw Object.assign(error, code !== undefined && { code })
}
