/** `imageioctl sign-ticket` and `make-key`: they need no daemon and no configuration. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import { signedTicketsSchema } from '../core/tickets/signed/config.js'
import { TokenRefusedError } from '../core/tickets/signed/errors.js'
import { signToken, type TokenClaims } from '../core/tickets/signed/sign.js'
import { BYTE_SIZE_RULE, parseByteSize } from './byte-size.js'
import { UsageError } from './command-line.js'
import { ControlError } from '../core/control/control-client.js'
import { isImageUrl } from './image-url.js'
import { makeKeyPair, readSigningKey } from './signing-key.js'

export interface SigningTerminal {
  readonly print: (text: string) => void
  readonly printError: (text: string) => void
}

/** Of a server that says nothing else. */
const DEFAULT_MAX_LIFETIME = signedTicketsSchema.signed_tickets.max_lifetime.default

const OPTIONS = {
  key: { type: 'string' },
  kid: { type: 'string' },
  url: { type: 'string' },
  size: { type: 'string' },
  ops: { type: 'string', default: 'read' },
  expires: { type: 'string', default: '1h' },
  'not-before': { type: 'string' },
  'transfer-id': { type: 'string' },
  audience: { type: 'string', multiple: true },
  sparse: { type: 'boolean', default: false },
  dirty: { type: 'boolean', default: false },
  filename: { type: 'string' },
  'inactivity-timeout': { type: 'string' },
  'max-bytes-per-second': { type: 'string' },
  'print-url': { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const satisfies ParseArgsOptionsConfig

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values']

const SIGN_HELP = `Usage: imageioctl sign-ticket --key FILE --url URL --size N --transfer-id ID --audience NAME [OPTIONS]

Prints a signed ticket (docs/signed-tickets.md). Needs neither the daemon nor its configuration, so it
takes no --conf-dir, and is the first word of the command line.

      --key FILE                private key (PEM): Ed25519, or P-256
      --kid NAME                what servers know its public key by (default: FILE without
                                directory and suffix)
      --url URL                 the image: file:///PATH on the daemon's host; for a proxy the
                                daemon's URL
      --size N                  bytes that may be accessed; 512K, 10M, 6G, 2T are binary multiples
      --transfer-id ID          name of the transfer: to revoke it by, and in the log
      --audience NAME           the server it is for; may be given again for others
      --ops OPS                 read, write, or read,write (default read)
      --expires TIME            how long it is good: seconds, or 90s, 30m, 1h, 1d (default 1h)
      --not-before TIME         from when on it is good, as long from now (default now)
      --sparse                  zeroed ranges may be deallocated
      --dirty                   dirty extents may be asked for
      --filename NAME           under which browsers save a download
      --inactivity-timeout N    seconds a client may be silent
      --max-bytes-per-second N  how fast it may go, in both directions together; 0 is no limit
      --print-url BASE          print BASE/images/TOKEN, for clients that can send no header
  -h, --help                    this text
`

const MAKE_HELP = `Usage: imageioctl make-key NAME

Makes an Ed25519 key pair: NAME.key, private, to sign tickets with, and NAME.pem, public, for the
[signed_tickets] keys directory of servers. Replaces no file.
`

/** Whether the command is one of these; then it has been run. */
export async function runSigning(
  [name, ...rest]: readonly string[],
  terminal: SigningTerminal,
): Promise<boolean> {
  if (name === 'make-key') await makeKey(rest, terminal)
  else if (name === 'sign-ticket') await signTicket(rest, terminal)
  else return false
  return true
}

async function makeKey(args: readonly string[], { print }: SigningTerminal): Promise<void> {
  const { help } = OPTIONS
  const { values, positionals } = parse(() =>
    parseArgs({ args: [...args], options: { help }, allowPositionals: true }),
  )
  if (values.help) {
    print(MAKE_HELP)
    return
  }
  const [name = '', ...more] = positionals
  if (name === '') throw new UsageError('make-key: NAME is missing')
  if (more.length > 0) throw new UsageError('make-key: too many arguments')
  const { secret, shared } = await makeKeyPair(name)
  print(`${secret}: private, sign with it\n${shared}: public, for servers\n`)
}

async function signTicket(
  args: readonly string[],
  { print, printError }: SigningTerminal,
): Promise<void> {
  const { values } = parse(() => parseArgs({ args: [...args], options: OPTIONS }))
  if (values.help) {
    print(SIGN_HELP)
    return
  }
  const file = required(values, 'key')
  const claims = claimsOf(values, Math.floor(Date.now() / 1000))
  const warn = (text: string): void => printError(`imageioctl: warning: ${text}\n`)
  if (claims.exp - claims.iat > DEFAULT_MAX_LIFETIME) {
    warn(
      `servers refuse more than ${DEFAULT_MAX_LIFETIME} s, unless [signed_tickets] max_lifetime allows it`,
    )
  }
  const key = await readSigningKey(file, values.kid, warn)
  const token = await signToken(claims, key).catch((cause: unknown) => {
    if (!(cause instanceof TokenRefusedError)) throw cause
    throw new ControlError(cause.message, { cause })
  })
  const base = values['print-url']?.replace(/\/+$/, '')
  print(base === undefined ? `${token}\n` : `${base}/images/${token}\n`)
}

function claimsOf(values: Values, now: number): TokenClaims {
  const { audience = [], sparse, dirty, filename } = values
  const [first, ...others] = audience
  if (first === undefined) throw new UsageError('sign-ticket: --audience is missing')
  const inactivity = values['inactivity-timeout']
  const rate = values['max-bytes-per-second']
  const begin = values['not-before']
  const notBefore = begin === undefined ? undefined : now + duration(begin, 'not-before')
  const exp = now + duration(values.expires, 'expires')
  if (exp <= (notBefore ?? now)) {
    throw new UsageError('sign-ticket: it would be over before it begins, see --expires')
  }
  return {
    aud: others.length > 0 ? audience : first,
    iat: now,
    ...(notBefore === undefined ? {} : { nbf: notBefore }),
    exp,
    transfer_id: required(values, 'transfer-id'),
    url: imageUrl(required(values, 'url')),
    ops: values.ops.split(','),
    size: bytes(required(values, 'size'), 'size'),
    ...(sparse ? { sparse } : {}),
    ...(dirty ? { dirty } : {}),
    ...(filename === undefined ? {} : { filename }),
    ...(inactivity === undefined
      ? {}
      : { inactivity_timeout: Number(integer(inactivity, 'inactivity-timeout')) }),
    ...(rate === undefined ? {} : { max_bytes_per_second: bytes(rate, 'max-bytes-per-second') }),
  }
}

function required(values: Values, name: 'key' | 'url' | 'size' | 'transfer-id'): string {
  const value = values[name]
  if (value !== undefined && value !== '') return value
  throw new UsageError(`sign-ticket: --${name} is missing`)
}

/** All digits are kept. */
function integer(text: string, name: string): bigint {
  if (/^\d{1,20}$/.test(text)) return BigInt(text)
  throw new UsageError(`sign-ticket: --${name} must be a number`)
}

function imageUrl(text: string): string {
  if (isImageUrl(text)) return text
  throw new UsageError(
    'sign-ticket: --url must be file:///PATH, an nbd: URL, or https://HOST:PORT/images/ID of a daemon',
  )
}

function bytes(text: string, name: string): bigint {
  const size = parseByteSize(text)
  if (size !== undefined) return size
  throw new UsageError(`sign-ticket: --${name} ${BYTE_SIZE_RULE}`)
}

const UNITS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 }

function duration(text: string, name: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,9})([smhd]?)$/.exec(text) ?? []
  if (digits !== '') return Number(digits) * (UNITS[unit] ?? 1)
  throw new UsageError(`sign-ticket: --${name} must be seconds, or a time like 30m, 1h or 1d`)
}

function parse<T>(read: () => T): T {
  try {
    return read()
  } catch (cause) {
    const [reason = ''] = (cause as Error).message.split(/\.?\s*\n|\. /)
    throw new UsageError(reason, { cause })
  }
}
