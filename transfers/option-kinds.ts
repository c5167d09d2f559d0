/** What options of the transfer service may be, beyond numbers and texts. */
import { isAbsolute } from 'node:path'
import { socket, string, type Option } from '../core/config/schema.js'
import { isUserName } from './password-file.js'

export const text = (value: string, description: string) => string({ default: value, description })

/** May be empty where it need not be given, or where empty means something. */
export const path = (value: string, description: string) =>
  string({
    default: value,
    description,
    allowed: 'an absolute path, or empty',
    accept: (written) => written === '' || isAbsolute(written),
  })

export const givenPath = (value: string, description: string) =>
  string({ default: value, description, allowed: 'an absolute path', accept: isAbsolute })

/** Somebody else listens there, so it has a name; `value` empty: it need not be given. */
export const peerSocket = (value: string, description: string): Option<string> => {
  const option = socket({ default: value, description })
  const mayBeEmpty = value === ''
  const parse = (written: string): string | undefined => {
    if (written === '' || written === '""') return mayBeEmpty ? '' : undefined
    return option.parse(written)
  }
  return { ...option, allowed: option.allowed + (mayBeEmpty ? ', or empty' : ''), parse }
}

/** Of a server: tickets and paths are added to it. */
export const url = (example: string, description: string) =>
  string({
    default: '',
    description,
    allowed: `a URL like ${example}, without user, path and query, or empty`,
    accept: (written) => written === '' || isOrigin(written),
  })

/** The same for a control service: who can read tickets on the way can use them. */
export const controlUrl = (description: string) =>
  string({
    default: '',
    description,
    allowed:
      'a URL like https://host:port, without user, path and query, or empty; http only for 127.0.0.1, ::1 and localhost',
    accept: (written) => written === '' || (isOrigin(written) && isPrivate(written)),
  })

const LOOPBACK = /^(127\.[\d.]+|\[::1\]|localhost)$/

function isPrivate(written: string): boolean {
  const { protocol, hostname } = new URL(written)
  return protocol === 'https:' || LOOPBACK.test(hostname)
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

export const id = (description: string) =>
  string({
    default: '',
    description,
    allowed: 'letters, digits, dots, hyphens and underscores, at most 64, or empty',
    accept: (written) => written === '' || ID.test(written),
  })

export const userName = (value: string, description: string) =>
  string({
    default: value,
    description,
    allowed: 'a name of at most 128 characters, without colon',
    accept: isUserName,
  })

/** A word that ends up in records and logs. */
export const label = (value: string, description: string) =>
  string({
    default: value,
    description,
    allowed: 'a name of at most 128 characters',
    accept: (written) => /^\P{Cc}{1,128}$/u.test(written),
  })

const ORIGIN = /^https?:\/\/(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9.])?)(:[0-9]{1,5})?\/?$/i

/** What a URL parser would mend in silence is a typing error here. */
function isOrigin(written: string): boolean {
  if (!ORIGIN.test(written)) return false
  const parsed = URL.parse(written)
  return parsed !== null && parsed.port !== '0'
}
