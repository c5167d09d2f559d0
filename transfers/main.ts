/** imageio-transfers. */
import { run } from '../core/process/main.js'
import { loadTransfersConfig, TRANSFERS_CONFIG_DIR } from './config.js'
import { allOptions } from './options.js'
import { passwdCommand, passwdWords } from './passwd-command.js'
import { preflight } from './preflight.js'

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
    schema: allOptions,
    load: loadTransfersConfig,
    start: async (options) => {
      // Most of the program, which nobody waits for who sets a password or checks a configuration.
      const [{ createParts }, { startTransfers }] = await Promise.all([
        import('./parts.js'),
        import('./transfers.js'),
      ])
      return startTransfers(options, createParts(options))
    },
  })
}
