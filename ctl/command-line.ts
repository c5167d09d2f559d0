/** The arguments of imageioctl, and its help. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import { DEFAULT_CONFIG_DIR } from '../core/config/load.js'
import { VERSION } from '../core/http/version.js'
import { BYTE_SIZE_RULE, parseByteSize } from './byte-size.js'

interface Common {
  readonly confDir: string
  readonly json: boolean
}

export type Command =
  /** What is known without a daemon: help, version. */
  | { readonly name: 'help'; readonly text: string }
  | (Common & { readonly name: 'add'; readonly file: string; readonly rate: bigint | undefined })
  | (Common & { readonly name: 'show'; readonly id: string })
  | (Common & { readonly name: 'list' })
  | (Common & {
      readonly name: 'modify'
      readonly id: string
      /** One of them at least. */
      readonly timeout: number | undefined
      readonly rate: bigint | undefined
    })
  | (Common & { readonly name: 'delete'; readonly id: string })
  | (Common & { readonly name: 'revoke' | 'unrevoke'; readonly id: string })
  | (Common & { readonly name: 'revocations' })

export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** What a command takes beside the options of all. */
interface Syntax {
  readonly argument?: 'FILE' | 'ID' | 'TRANSFER'
  readonly takesTimeout?: boolean
  readonly takesRate?: boolean
  readonly help: string
}

const SYNTAX = {
  add: {
    argument: 'FILE',
    takesRate: true,
    help: `Installs the ticket in FILE, a JSON object as the management engine sends it; - is standard
input. An id that exists is replaced: its running transfers are cancelled. With --max-bytes-per-second
the limit of the ticket is this one, whatever FILE says.`,
  },
  show: {
    argument: 'ID',
    help: 'Shows one ticket: limits, progress and who is using it.',
  },
  list: { help: 'Shows all tickets. Ids are secrets and therefore shortened.' },
  modify: {
    argument: 'ID',
    takesTimeout: true,
    takesRate: true,
    help: `Changes a ticket, and with it the transfers that run. --timeout N makes it expire N seconds from
now; 0 ends it at once. --max-bytes-per-second N limits how fast it goes; 0 is no limit.`,
  },
  delete: {
    argument: 'ID',
    help: `Cancels what runs on a ticket, waits until the image is closed, and removes the ticket. To
delete what is not there is no error. Status 409 means that it is still closing: try again.`,
  },
  revoke: {
    argument: 'TRANSFER',
    help: `Ends a transfer of signed tickets: its tokens are refused from now on until all of them are over,
and what runs is cancelled as by delete. Status 409 means that it is still closing: try again.`,
  },
  unrevoke: { argument: 'TRANSFER', help: 'Accepts the tokens of a transfer again.' },
  revocations: { help: 'Shows all transfers that are revoked, and until when that is kept.' },
} as const satisfies Record<string, Syntax>
type Name = keyof typeof SYNTAX

/** Names that scripts written for the earlier tool use. Its show printed JSON. */
const OLD_NAMES = new Map<string, { readonly name: Name; readonly json: boolean }>([
  ['add-ticket', { name: 'add', json: false }],
  ['show-ticket', { name: 'show', json: true }],
  ['mod-ticket', { name: 'modify', json: false }],
  ['del-ticket', { name: 'delete', json: false }],
])

const OPTIONS = {
  'conf-dir': { type: 'string', short: 'c', default: DEFAULT_CONFIG_DIR },
  json: { type: 'boolean', default: false },
  timeout: { type: 'string' },
  'max-bytes-per-second': { type: 'string' },
  version: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const satisfies ParseArgsOptionsConfig

/** Throws UsageError. */
export function parseCommandLine(argv: readonly string[]): Command {
  refuseLateSigning(argv)
  const { values, positionals } = parse(argv)
  const [word, ...rest] = positionals
  if (values.version) return { name: 'help', text: `imageioctl ${VERSION}\n` }
  if (word === undefined) {
    if (argv.length > 0 && !values.help) throw new UsageError('no command')
    return { name: 'help', text: HELP }
  }
  const old = OLD_NAMES.get(word)
  const name = old?.name ?? Object.keys(SYNTAX).find((known): known is Name => known === word)
  if (name === undefined) throw new UsageError(`unknown command ${word}`)
  if (values.help) return { name: 'help', text: commandHelp(name) }

  const { argument, takesTimeout, takesRate }: Syntax = SYNTAX[name]
  const common = { confDir: values['conf-dir'], json: values.json || (old?.json ?? false) }
  if (rest.length > (argument ? 1 : 0)) throw new UsageError(`${word}: too many arguments`)
  if (values.timeout !== undefined && !takesTimeout) {
    throw new UsageError(`${word}: --timeout belongs to modify`)
  }
  const rate = bytesPerSecond(values['max-bytes-per-second'], word)
  if (rate !== undefined && !takesRate) {
    throw new UsageError(`${word}: --max-bytes-per-second belongs to add and modify`)
  }
  if (name === 'list' || name === 'revocations') return { name, ...common }
  const [value] = rest
  if (value === undefined || value === '')
    throw new UsageError(`${word}: ${argument ?? ''} is missing`)
  if (name === 'add') return { name, ...common, file: value, rate }
  if (name === 'modify') {
    const timeout = seconds(values.timeout, word)
    if (timeout === undefined && rate === undefined) {
      throw new UsageError(`${word}: --timeout N or --max-bytes-per-second N is missing`)
    }
    return { name, ...common, id: value, timeout, rate }
  }
  return { name, ...common, id: value }
}

/** They have options of their own, so they are told apart before any option is read. */
const SIGNING_COMMANDS = ['make-key', 'sign-ticket']

function refuseLateSigning(argv: readonly string[]): void {
  const options = { args: [...argv], options: OPTIONS, allowPositionals: true, strict: false }
  const [word = ''] = parseArgs(options).positionals
  if (!SIGNING_COMMANDS.includes(word)) return
  throw new UsageError(`${word} must be the first word; it reads no configuration and takes no -c`)
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
  } catch (cause) {
    // The parser goes on with advice, in sentences or lines of their own.
    const [reason = ''] = (cause as Error).message.split(/\.?\s*\n|\. /)
    throw new UsageError(reason, { cause })
  }
}

function seconds(text: string | undefined, word: string): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value
  throw new UsageError(`${word}: --timeout must be a number of seconds`)
}

function bytesPerSecond(text: string | undefined, word: string): bigint | undefined {
  if (text === undefined) return undefined
  const rate = parseByteSize(text)
  if (rate === undefined) {
    throw new UsageError(`${word}: --max-bytes-per-second ${BYTE_SIZE_RULE}`)
  }
  return rate
}

const COMMON_HELP = `Options:
  -c, --conf-dir DIR  configuration of the daemon or proxy
                      (default ${DEFAULT_CONFIG_DIR}, the daemon's; the
                      proxy's is /etc/ovirt-imageio-proxy)
      --json          print the daemon's JSON
      --version       print the version
  -h, --help          this text
`

const HELP = `Manages the tickets of a running imageio-daemon or imageio-proxy.

Usage: imageioctl [OPTIONS] COMMAND

Commands:
  add FILE                install a ticket; - reads standard input
  show ID                 show one ticket
  list                    show all tickets
  modify ID --timeout N   make a ticket expire in N seconds
  modify ID --max-bytes-per-second N
                          limit its speed; N may be 10M, 1G, 0 is no limit
  delete ID               cancel and remove a ticket

Signed tickets:
  make-key NAME           make a key pair to sign and verify with
  sign-ticket --key …     print a signed ticket (see sign-ticket --help)
  revoke TRANSFER         end a transfer, whoever has a token for it
  unrevoke TRANSFER       accept its tokens again
  revocations             show all that are revoked

add-ticket, show-ticket (prints JSON), mod-ticket and del-ticket are the same.

${COMMON_HELP}
Exit status: 0 done, 1 the daemon refused or cannot be reached, 2 wrong arguments.
`

function commandHelp(name: Name): string {
  const { argument, takesTimeout, takesRate, help }: Syntax = SYNTAX[name]
  const own = [takesTimeout && '[--timeout N]', takesRate && '[--max-bytes-per-second N]']
  const usage = ['imageioctl', name, argument, ...own, '[OPTIONS]']
  return `Usage: ${usage.filter(Boolean).join(' ')}\n\n${help}\n\n${COMMON_HELP}`
}
