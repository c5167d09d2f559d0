/** The command line of `imageio-transfers passwd`. */
import { parseArgs } from 'node:util'
import { loadTransfersConfig, TRANSFERS_CONFIG_DIR } from './config.js'
import { passwd, type PasswdIo } from './passwd.js'
import { BAD_NAME, isUserName } from './password-file.js'

const NAME = 'imageio-transfers passwd'

const HELP = `\
Usage: ${NAME} [options] [USER]

Sets the password of USER, who is added if there is none of this name. Without USER it is that of
[transfers] username. A terminal is asked for it twice; without one it is the first line of standard
input. Only a hash is stored, in the file [transfers] password_file, which is made for its owner alone
and else keeps its owner. A running service heeds it at once.

Options:
  -c, --conf-dir DIR  directory of conf.d (default: ${TRANSFERS_CONFIG_DIR})
  -h, --help          print this and exit

Exit status: 0 the password is set, 1 it is as before, 2 wrong usage.

Example, in a script:
  printf '%s\\n' "$PASSWORD" | ${NAME} admin@internal
`

const OPTIONS = {
  'conf-dir': { type: 'string', short: 'c', default: TRANSFERS_CONFIG_DIR },
  help: { type: 'boolean', short: 'h', default: false },
} as const

/** The words of `passwd`, before which the directory may be given; undefined of another command line. */
export function passwdWords(words: readonly string[]): readonly string[] | undefined {
  const [first = ''] = words
  const at = /^(-c|--conf-dir)$/.test(first) ? 2 : /^(-c.|--conf-dir=)/.test(first) ? 1 : 0
  return words[at] === 'passwd' ? words.toSpliced(at, 1) : undefined
}

export interface CommandIo extends PasswdIo {
  readonly print: (text: string) => void
}

/** The exit status. */
export async function passwdCommand(words: readonly string[], io: CommandIo): Promise<0 | 1 | 2> {
  let wanted: Wanted
  try {
    wanted = parse(words)
  } catch (error) {
    io.printError(`${NAME}: ${reasonOf(error)}\nTry ${NAME} --help.\n`)
    return 2
  }
  if (wanted === 'help') {
    io.print(HELP)
    return 0
  }
  try {
    const { password_file, username } = loadTransfersConfig(wanted.dir).config.transfers
    await passwd(password_file, wanted.user ?? username, io)
    return 0
  } catch (error) {
    io.printError(`${NAME}: ${reasonOf(error)}\n`)
    return 1
  }
}

type Wanted = 'help' | { readonly dir: string; readonly user: string | undefined }

function parse(words: readonly string[]): Wanted {
  const { values, positionals } = parseArgs({
    args: [...words],
    options: OPTIONS,
    allowPositionals: true,
  })
  if (values.help) return 'help'
  const [user, another] = positionals
  if (another !== undefined) throw new Error(`one user at a time, ${another} is too many`)
  if (user !== undefined && !isUserName(user)) {
    throw new Error(BAD_NAME)
  }
  return { dir: values['conf-dir'], user }
}

/** The parser goes on with advice, in sentences of its own. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code } = error as NodeJS.ErrnoException
  if (code?.startsWith('ERR_PARSE_ARGS') !== true) return error.message
  return error.message.split(/\.?\s*\n|\. /)[0] ?? ''
}
