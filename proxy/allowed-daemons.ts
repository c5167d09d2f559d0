/**
 * Which daemons tickets may name: `[proxy] allowed_daemons`. `*.example.com` is any host below
 * example.com, on the daemon's port; `host:1234` names another port, `host:*` any; IPv6 addresses are
 * in brackets. Names are compared as the ticket writes them: what a name resolves to is not asked,
 * as the certificate has to fit the name anyway.
 */

export interface Place {
  readonly host: string
  readonly port: number
}

export interface Pattern {
  readonly host: RegExp
  /** Undefined is any. */
  readonly port: number | undefined
}

const DAEMON_PORT = 54322
const MAX_PORT = 65535
const PATTERN = /^(\[[\da-f:.]+\]|[\w.*-]+)(?::(\d{1,5}|\*))?$/i

export function splitPatterns(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== '')
}

/** Of a text whose words are patterns, as the configuration has checked. */
export function parsePatterns(text: string): Pattern[] {
  return splitPatterns(text).flatMap((word) => parsePattern(word) ?? [])
}

export function isAllowed({ host, port }: Place, patterns: readonly Pattern[]): boolean {
  return patterns.some(
    (pattern) => pattern.host.test(host) && (pattern.port === undefined || pattern.port === port),
  )
}

/** Undefined when it is none. */
export function parsePattern(word: string): Pattern | undefined {
  const [, name, port = String(DAEMON_PORT)] = PATTERN.exec(word) ?? []
  if (name === undefined || (port !== '*' && Number(port) > MAX_PORT)) return undefined
  return {
    host: hostPattern(name.startsWith('[') ? normalized(name) : name),
    port: port === '*' ? undefined : Number(port),
  }
}

/** One address has many spellings; URLs have one. */
function normalized(literal: string): string {
  const url = URL.parse(`http://${literal}/`)
  return (url?.hostname ?? literal).slice(1, -1)
}

/** A star is any text: it also spans dots. */
function hostPattern(name: string): RegExp {
  const parts = name.split('*').map((part) => part.replace(/[.[\]]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 'i')
}
