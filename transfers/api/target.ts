/**
 * The request target as the router sees it: matrix parameters of the last segment (`/disks;max=5`) become
 * part of the query, where the query itself has none of that name; no slash at the end.
 */

import { API } from './links.js'

/** Where nothing is registered, but who asks has to log in. */
export const UNDECODABLE = '/@undecodable'

export function canonicalTarget(target: string): string {
  const [, raw = '', query = ''] = /^([^?#]*)(\?[^#]*)?/.exec(withoutOrigin(target)) ?? []
  try {
    decodeURIComponent(raw)
  } catch {
    return API + UNDECODABLE
  }
  const segments = raw.replace(/(?<=.)\/+$/, '').split('/')
  const [, ...matrix] = segments.at(-1)?.split(';') ?? []
  const path = segments.map((segment) => segment.split(';', 1)[0]).join('/')
  const parameters = [query.slice(1), ...matrix.map(asQuery)].filter((text) => text !== '')
  return parameters.length === 0 ? path : `${path}?${parameters.join('&')}`
}

/** In a path `+` and `&` mean themselves. */
function asQuery(parameter: string): string {
  return parameter.replaceAll('+', '%2B').replaceAll('&', '%26')
}

/** absolute-form (RFC 9112, 3.2.2). */
function withoutOrigin(target: string): string {
  return target.replace(/^https?:\/\/[^/?#]*/i, '')
}
