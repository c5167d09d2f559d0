/** The OpenAPI document and the page made from it. */
import t from 'tap'
import { readFileSync } from 'node:fs'
import { BEGIN, reference } from '../../../transfers/api/reference.js'
import { request } from '../../support/http.js'
import { A, start } from './start.js'

t.test('the OpenAPI document has every path once, and needs no login', async (t) => {
  const { target } = await start(t)
  const { status, json } = await request(target, 'GET', `${A}/openapi.json`)
  t.equal(status, 200)
  const { paths, openapi } = json as { openapi: string; paths: Record<string, object> }
  t.match(openapi, /^3\.1/)
  t.match(paths[`${A}/disks/{id}`], { get: { summary: 'One disk' }, delete: {} })
  t.match(paths[`${A}/imagetransfers`], {
    post: { requestBody: { content: { 'application/xml': {}, 'application/json': {} } } },
  })
  t.notOk(Object.keys(paths).some((path) => path.includes('/v4')))
  const withPut = Object.keys(paths).filter((path) => 'put' in (paths[path] ?? {}))
  t.strictSame(withPut, [`${A}/disks/{id}`])
  t.ok(Object.values(paths).every((methods) => !('head' in methods)))
})

interface Response {
  readonly description: string
  readonly content?: Record<string, object>
  readonly headers?: Record<string, object>
}

interface Operation {
  readonly parameters?: readonly { name: string; in: string; required?: boolean; schema: object }[]
  readonly requestBody?: { content: Record<string, { schema: object }> }
  readonly responses: Record<string, Response>
  readonly security?: readonly Record<string, string[]>[]
  readonly summary: string
}

interface Document {
  readonly paths: Record<string, Record<string, Operation>>
  readonly servers: readonly { url: string }[]
  readonly security: readonly Record<string, string[]>[]
  readonly components: { readonly securitySchemes: Record<string, { type: string }> }
}

t.test('the OpenAPI document is whole: logins, parameters, bodies and answers', async (t) => {
  const { target } = await start(t)
  const { json, text } = await request(target, 'GET', `${A}/openapi.json`)
  const { paths, servers, security, components } = json as Document
  t.strictSame(
    servers.map(({ url }) => url),
    ['/'],
  )
  t.match(components.securitySchemes, {
    basic: { type: 'http', scheme: 'basic' },
    bearer: { type: 'http', scheme: 'bearer' },
  })
  t.notMatch(text, '$ref', 'all is in its place')
  const without: string[] = []
  for (const [path, methods] of Object.entries(paths)) {
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    for (const [method, operation] of Object.entries(methods)) {
      const what = `${method} ${path}`
      const { parameters = [], requestBody, responses, summary } = operation
      t.match(summary, /^\S/, what)
      const declared = parameters.filter((each) => each.in === 'path')
      t.strictSame(
        declared.map(({ name }) => name),
        inPath,
        what,
      )
      t.ok(declared.every(({ required }) => required === true))
      t.equal(new Set(parameters.map((each) => `${each.in} ${each.name}`)).size, parameters.length)
      if (requestBody !== undefined) {
        t.ok(['post', 'put'].includes(method), what)
        t.ok(Object.values(requestBody.content).every(({ schema }) => 'type' in schema))
      }
      t.ok(
        Object.keys(responses).some((status) => /^20[012]$/.test(status)),
        what,
      )
      for (const [status, { description, content = {} }] of Object.entries(responses)) {
        t.match(status, /^[2-5]\d\d$/)
        t.type(description, 'string')
        t.ok(Object.keys(content).length > 0, `${what} ${status}`)
      }
      t.strictSame(missing(commonStatuses(method, path), responses), [], what)
      for (const status of ['429', '503']) {
        const response = responses[status]
        t.ok(response === undefined || 'Retry-After' in (response.headers ?? {}), what + status)
      }
      const needed = operation.security ?? security
      const names = needed.flatMap((each) => Object.keys(each))
      t.ok(names.every((name) => name in components.securitySchemes))
      if (needed.length === 0) without.push(path)
    }
  }
  t.match(new Set(without), new Set(OPEN), 'what needs no login')
})

function missing(statuses: readonly string[], responses: object): string[] {
  return statuses.filter((status) => !(status in responses))
}

function commonStatuses(method: string, path: string): string[] {
  const isOpen = OPEN.includes(path) || path.startsWith(SSO)
  const ofBody = ['post', 'put'].includes(method) ? ['413'] : []
  const ofObject = path.endsWith('/events') ? [] : ['406']
  return ['431', '503', ...ofBody, ...(isOpen ? [] : ['401', '429', ...ofObject])]
}

const SSO = '/ovirt-engine/sso/oauth'
const SERVICES = '/ovirt-engine/services'
const OPEN = [
  `${SSO}/token`,
  `${SSO}/revoke`,
  `${SERVICES}/sso-logout`,
  `${SERVICES}/pki-resource`,
  `${A}/openapi.json`,
]

t.test('every route is in the OpenAPI document, with its methods', async (t) => {
  const { target, ask, routes } = await start(t)
  const { json } = await request(target, 'GET', `${A}/openapi.json`)
  const { paths } = json as Document
  const served = pathsOf(routes()).filter((path) => !path.startsWith(`${A}/v4`))
  t.strictSame(served.sort(), Object.keys(paths).sort())
  for (const [path, methods] of Object.entries(paths)) {
    const { headers } = await ask('PATCH', path.replaceAll(/\{\w+\}/g, 'x'))
    const allow = headers['allow']?.split(', ').filter((method) => method !== 'HEAD')
    // Those beside the API have no 405.
    if (allow === undefined) t.notOk(path.startsWith(`${A}/`) && !OPEN.includes(path), path)
    else t.strictSame(Object.keys(methods).sort(), allow.map((name) => name.toLowerCase()).sort())
  }
})

/** Of the router's own picture of them: a tree, each line a piece of a path. */
function pathsOf(tree: string): string[] {
  const above: string[] = []
  return tree.split('\n').flatMap((line) => {
    const [, indent = '', piece = '', methods] = /^([│├└─ ]*)(\S+)( \(.*\))?$/.exec(line) ?? []
    if (piece === '') return []
    const depth = indent.length / 4
    above.length = depth
    above[depth - 1] = piece
    const path = above.join('').replaceAll(/:(\w+)/g, '{$1}')
    return methods === undefined ? [] : [path]
  })
}

t.test('the page in docs is up to date (npm run docs)', async (t) => {
  const { target } = await start(t)
  const { json } = await request(target, 'GET', `${A}/openapi.json`)
  const page = readFileSync('docs/transfers-api.md', 'utf8')
  t.equal(page.slice(page.indexOf(BEGIN)), reference(json as object, A))
})
