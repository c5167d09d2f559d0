/**
 * The path of a request target in one form, so that a route sees `/images/%74%31`, `/images%2Ft1` and
 * `http://host/images/t1` as what they all mean (images-api.md, 1.1). An id may contain slashes and may be
 * empty, which no router parameter matches: paths are matched here, anchored at both ends, and go to
 * the router with the id encoded and marked.
 */
const SHAPES: readonly { pattern: RegExp; rest: string }[] = [
  { pattern: /^\/(images)\/(.*)\/extents$/s, rest: '/extents' },
  { pattern: /^\/(images)\/(.*)\/checksum\/algorithms$/s, rest: '/checksum/algorithms' },
  { pattern: /^\/(images)\/(.*)\/checksum$/s, rest: '/checksum' },
  { pattern: /^\/(images|tickets|revocations)\/(.*)$/s, rest: '' },
]

const MARK = '='

/** Where targets go that are no path at all; nothing is registered there. */
const NOWHERE = '/@nowhere'

/** The target for the router, its query as it came. Undefined when the path cannot be decoded. */
export function canonicalTarget(target: string): string | undefined {
  const [, raw = '', query = ''] = /^([^?#]*)(\?[^#]*)?/.exec(stripOrigin(target)) ?? []
  const path = canonicalPath(raw)
  return path === undefined ? undefined : path + query
}

function canonicalPath(raw: string): string | undefined {
  let path: string
  try {
    path = decodeURIComponent(raw)
  } catch {
    return undefined
  }
  if (!path.startsWith('/')) return NOWHERE
  path = path.replace(/^\/+/, '/')
  for (const { pattern, rest } of SHAPES) {
    const [, room, id] = pattern.exec(path) ?? []
    if (room === undefined || id === undefined) continue
    return `/${room}/${MARK}${encodeURIComponent(id)}${rest}`
  }
  return encodeURI(path)
}

/** absolute-form (RFC 9112, 3.2.2): a server must accept it, though only proxies' clients send it. */
function stripOrigin(target: string): string {
  const origin = /^https?:\/\/[^/?#]*/i.exec(target)
  if (origin === null) return target
  const rest = target.slice(origin[0].length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** The id out of the router's parameter. */
export function idOf(parameter: string): string {
  return parameter.slice(MARK.length)
}
