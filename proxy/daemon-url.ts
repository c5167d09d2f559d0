/** The URL of a proxy's ticket: an image on a daemon (control-api.md, 2). */
import { isAllowed, type Pattern } from './allowed-daemons.js'
import { DaemonNotAllowedError, UnsupportedDaemonUrlError } from './errors.js'

export interface DaemonUrl {
  readonly isTls: boolean
  /** As written, without brackets. */
  readonly host: string
  readonly port: number
  /** host:port for Host and log. */
  readonly address: string
  /** Encoded, without query. */
  readonly path: string
}

export interface UrlRules {
  readonly allowed: readonly Pattern[]
  readonly allowHttp: boolean
}

/** Throws UnsupportedDaemonUrlError or DaemonNotAllowedError. */
export function parseDaemonUrl(text: string, { allowed, allowHttp }: UrlRules): DaemonUrl {
  // URL also takes a host behind one slash, three or none, where others find a path.
  const url = /^https?:\/\/[^/\s]/i.test(text) ? URL.parse(text) : null
  if (url === null) throw new UnsupportedDaemonUrlError()
  const isTls = url.protocol === 'https:'
  if (!isTls && !allowHttp) throw new UnsupportedDaemonUrlError()
  if (url.username !== '' || url.password !== '') throw new UnsupportedDaemonUrlError()
  // Nothing else on that host is the proxy's business. Daemons decode a path before they split it.
  if (!/^\/images\/[^/]+$/.test(url.pathname) || /\\|%2f|%5c/i.test(text))
    throw new UnsupportedDaemonUrlError()
  const port = url.port === '' ? (isTls ? 443 : 80) : Number(url.port)
  const daemon = {
    isTls,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port,
    address: `${url.hostname}:${port}`,
    path: url.pathname,
  }
  if (!isAllowed(daemon, allowed)) throw new DaemonNotAllowedError(daemon.address)
  return daemon
}

/** As tickets show it: `HTTPS://Host/images/x?y` is `https://host/images/x`. */
export function normalizeDaemonUrl(text: string, rules: UrlRules): string {
  parseDaemonUrl(text, rules)
  const url = new URL(text)
  url.search = ''
  url.hash = ''
  return url.href
}
