/** Where an NBD export is, from the URL of a ticket. Nothing is decoded, nothing is ignored. */
import { isIPv6 } from 'node:net'
import { UnsupportedUrlError } from '../errors.js'
import { MAX_NAME } from './protocol.js'

export type NbdAddress =
  { readonly path: string } | { readonly host: string; readonly port: number }

export interface NbdUrl {
  readonly address: NbdAddress
  readonly exportName: string
  readonly tls: boolean
}

/** sun_path without its NUL. */
const MAX_SOCKET_PATH = 107

const NAME = ':exportname='

export function isNbdUrl(url: string): boolean {
  return /^nbds?:/i.test(url)
}

/** Throws UnsupportedUrlError, which says what is wrong. */
export function parseNbdUrl(url: string): NbdUrl {
  const scheme = url.slice(0, url.indexOf(':')).toLowerCase()
  const rest = url.slice(scheme.length + 1)
  if (url.includes('\0')) throw new UnsupportedUrlError('it has a NUL')
  const tls = scheme === 'nbds'
  if (rest.startsWith('//')) return checked({ tls, ...withSlashes(rest.slice(2)) })
  if (tls) throw new UnsupportedUrlError('it must be nbds://host:port/name')
  const [address, exportName] = splitName(rest)
  refuseControl(address)
  const isUnix = address.startsWith('unix:')
  const found = isUnix ? unixAddress(address.slice('unix:'.length)) : tcpAddress(address)
  return checked({ tls, address: found, exportName })
}

/** The same URL as tickets show it: with its scheme in lower case. */
export function normalizeNbdUrl(url: string): string {
  parseNbdUrl(url)
  const end = url.indexOf(':')
  return url.slice(0, end).toLowerCase() + url.slice(end)
}

function withSlashes(rest: string): { address: NbdAddress; exportName: string } {
  const slash = rest.indexOf('/')
  const authority = slash < 0 ? rest : rest.slice(0, slash)
  refuseControl(authority)
  const exportName = slash < 0 ? '' : rest.slice(slash + 1)
  return { address: tcpAddress(authority), exportName }
}

function splitName(rest: string): [string, string] {
  const at = rest.indexOf(NAME)
  return at < 0 ? [rest, ''] : [rest.slice(0, at), rest.slice(at + NAME.length)]
}

/**
 * In an address they are a mistake, of a line end that was read with it. The name of an export is the
 * server's, to the protocol any text in UTF-8, in which only a NUL has no place.
 */
function refuseControl(address: string): void {
  if (/\p{Cc}/u.test(address)) throw new UnsupportedUrlError('it has a control character')
}

function unixAddress(path: string): NbdAddress {
  if (!path.startsWith('/')) throw new UnsupportedUrlError('the socket path is not absolute')
  if (path.includes(':')) throw new UnsupportedUrlError('only :exportname= may follow the socket')
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new UnsupportedUrlError('the socket path is too long')
  }
  return { path }
}

function tcpAddress(text: string): NbdAddress {
  const match = /^(?:\[(?<v6>[^\]]*)\]|(?<name>[^:/?#@[\]\s]+)):(?<port>\d{1,5})$/.exec(text)
  const { v6, name = '', port } = match?.groups ?? {}
  if (match === null) throw new UnsupportedUrlError('host and port are not as host:port')
  if (v6 !== undefined && !isIPv6(v6)) throw new UnsupportedUrlError('that is no IPv6 address')
  const number = Number(port)
  if (number < 1 || number > 65535) throw new UnsupportedUrlError('the port is out of range')
  return { host: v6 ?? name, port: number }
}

function checked(url: NbdUrl): NbdUrl {
  if (!url.exportName.isWellFormed()) throw new UnsupportedUrlError('the export is no text')
  if (Buffer.byteLength(url.exportName) > MAX_NAME) {
    throw new UnsupportedUrlError('the name of the export is too long')
  }
  return url
}
