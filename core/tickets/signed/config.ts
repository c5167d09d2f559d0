/** Section [signed_tickets], for every server that takes them. */
import { isAbsolute } from 'node:path'
import type { Report } from '../../config/load.js'
import { boolean, integer, string, type ConfigOf } from '../../config/schema.js'

export const signedTicketsSchema = {
  signed_tickets: {
    enable: boolean({
      default: false,
      description: 'Accept tokens signed with one of `keys`, besides tickets that were installed.',
    }),
    keys: string({
      default: '',
      allowed: 'an absolute path',
      accept: (text) => text === '' || isAbsolute(text),
      description:
        'Directory of public keys (*.pem, *.jwk), or a file with a JWK set. Read again when it ' +
        'changes. Required while enable is on.',
    }),
    audience: string({
      default: '',
      description:
        'Names of this server, separated by commas; a token must be made out to one of them. ' +
        'Required while enable is on: a URL means something else on every host.',
    }),
    max_lifetime: integer({
      default: 86_400,
      min: 1,
      max: 31_536_000,
      description:
        'Seconds from iat to exp at most. Revocations are kept as long, and no key can be retired ' +
        'sooner.',
    }),
    clock_tolerance: integer({
      default: 5,
      min: 0,
      max: 300,
      description: 'Seconds the clocks of signer and server may differ.',
    }),
    max_tickets: integer({
      default: 4096,
      min: 1,
      max: 1_000_000,
      description:
        'Signed tickets kept account of; one more is answered with 503. Bounds memory, since ' +
        'nobody has to remove them.',
    }),
    revocations_file: string({
      default: '',
      allowed: 'an absolute path',
      accept: (text) => text === '' || isAbsolute(text),
      description:
        'Where revocations are kept over a restart; the user of the server must be able to write ' +
        'its directory. Empty: a restart makes revoked tokens good again, and a warning says so.',
    }),
  },
} as const

export type SignedTicketsConfig = ConfigOf<typeof signedTicketsSchema>

/** Refuses what is incomplete. */
export function checkSignedTickets(config: SignedTicketsConfig, { fail, warn }: Report): void {
  const { enable, keys, audience, revocations_file } = config.signed_tickets
  if (!enable) return
  if (keys === '')
    fail('signed_tickets', 'keys', 'must name a directory or file while enable is on')
  if (splitAudience(audience).length === 0) {
    fail('signed_tickets', 'audience', 'must name this server while enable is on')
  }
  if (revocations_file === '') {
    warn('signed_tickets', 'revocations_file', 'is empty, so a restart forgets revocations')
  }
}

export function splitAudience(text: string): string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
}
