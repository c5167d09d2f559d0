/** `imageio-transfers passwd [USER]`: asks for a password and stores it. */
import type { ReadStream as TerminalInput } from 'node:tty'
import { setPassword } from './password-file.js'

export interface PasswdIo {
  readonly stdin: NodeJS.ReadableStream
  readonly printError: (text: string) => void
}

/** A longer line is no password. */
const MAX_PASSWORD_BYTES = 4096

/** From a terminal twice and without showing it, else the first line of what comes in. */
export async function passwd(path: string, user: string, io: PasswdIo): Promise<void> {
  await setPassword(path, user, await readNewPassword(user, io))
}

async function readNewPassword(user: string, { stdin, printError }: PasswdIo): Promise<string> {
  if (!isTerminal(stdin)) return readLine(stdin)
  printError(`New password of ${user}: `)
  const password = await readSilently(stdin, printError)
  printError('Again: ')
  if ((await readSilently(stdin, printError)) === password) return password
  throw new Error('the passwords differ')
}

function isTerminal(stdin: NodeJS.ReadableStream): stdin is TerminalInput {
  return 'isTTY' in stdin && stdin.isTTY === true
}

async function readLine(stdin: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of stdin) {
    const bytes = Buffer.from(chunk)
    chunks.push(bytes)
    size += bytes.length
    if (bytes.includes('\n')) break
    if (size > MAX_PASSWORD_BYTES) throw new Error('the password is too long')
  }
  const [line = ''] = Buffer.concat(chunks).toString().split('\n')
  return line.replace(/\r$/, '')
}

const ENTER = new Set(['\r', '\n', '\u0004'])
const ERASE = new Set(['\u007f', '\b'])
const INTERRUPT = '\u0003'
const KILL_LINE = '\u0015'

/** Raw mode: the terminal echoes nothing, and editing is ours. */
async function readSilently(
  terminal: TerminalInput,
  printError: (text: string) => void,
): Promise<string> {
  let characters: string[] = []
  terminal.setRawMode(true)
  terminal.resume()
  try {
    return await new Promise<string>((resolve, reject) => {
      const settle = (end: () => void): void => {
        terminal.off('data', onData)
        end()
      }
      const onData = (chunk: Buffer): void => {
        for (const character of chunk.toString()) {
          const isInterrupted = character === INTERRUPT
          if (isInterrupted || ENTER.has(character)) {
            settle(() => {
              if (isInterrupted) reject(new Error('interrupted'))
              else resolve(characters.join(''))
            })
            return
          }
          if (ERASE.has(character)) characters.pop()
          else if (character === KILL_LINE) characters = []
          else characters.push(character)
        }
      }
      terminal.on('data', onData)
    })
  } finally {
    terminal.setRawMode(false)
    terminal.pause()
    printError('\n')
  }
}
