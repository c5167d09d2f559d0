/** imageio-transfers. */
import { run } from '../core/process/main.js'
import { loadTransfersConfig, TRANSFERS_CONFIG_DIR } from './config.js'
import { createParts } from './parts.js'
import { passwdCommand, passwdWords } from './passwd-command.js'
import { preflight } from './preflight.js'
import { startTransfers } from './transfers.js'

const NAME = 'imageio-transfers'

const words = passwdWords(process.argv.slice(2))
if (words !== undefined) {
  const { stdin, stdout, stderr } = process
  process.exitCode = await passwdCommand(words, {
    stdin,
    print: (text) => void stdout.write(text),
    printError: (text) => void stderr.write(text),
  })
} else {
  run({
    name: NAME,
    purpose:
      'Manages transfers of virtual machine disks: whose turn it is, where, and what came of it.',
    usage: `       ${NAME} passwd [options] [USER]   sets a password, see ${NAME} passwd --help\n`,
    confDir: TRANSFERS_CONFIG_DIR,
    takesTicket: false,
    preflight,
    load: loadTransfersConfig,
    start: (options) => startTransfers(options, createParts(options)),
  })
}
