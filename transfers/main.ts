/** imageio-transfers. */
import { parseArgs } from 'node:util'
import { DEFAULT_CONFIG_DIR } from '../core/config/load.js'
import { run } from '../core/process/main.js'
import { loadTransfersConfig } from './config.js'
import { createParts } from './parts.js'
import { passwd } from './passwd.js'
import { preflight } from './preflight.js'
import { startTransfers } from './transfers.js'

const NAME = 'imageio-transfers'

const args = process.argv.slice(2)
if (args[0] === 'passwd') await setPassword(args.slice(1))
else {
  run({
    name: NAME,
    purpose:
      'Manages transfers of virtual machine disks: whose turn it is, where, and what came of it.',
    usage: `
       ${NAME} passwd [-c DIR] [USER]
       asks for a new password of USER ([transfers] username) and stores it in [transfers]
       password_file; without a terminal it is the first line of standard input
`,
    takesTicket: false,
    preflight,
    load: loadTransfersConfig,
    start: (options) => startTransfers(options, createParts(options)),
  })
}

async function setPassword(words: string[]): Promise<void> {
  const printError = (text: string): void => void process.stderr.write(text)
  let dir: string
  let named: string | undefined
  try {
    const options = { 'conf-dir': { type: 'string', short: 'c' } } as const
    const { values, positionals } = parseArgs({ args: words, options, allowPositionals: true })
    if (positionals.length > 1) throw new Error('one user at a time')
    dir = values['conf-dir'] ?? DEFAULT_CONFIG_DIR
    named = positionals[0]
  } catch (error) {
    printError(`${NAME} passwd: ${reasonOf(error)}\nTry ${NAME} --help.\n`)
    process.exitCode = 2
    return
  }
  try {
    const { password_file, username } = loadTransfersConfig(dir).config.transfers
    await passwd(password_file, named ?? username, { stdin: process.stdin, printError })
  } catch (error) {
    printError(`${NAME} passwd: ${reasonOf(error)}\n`)
    process.exitCode = 1
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
