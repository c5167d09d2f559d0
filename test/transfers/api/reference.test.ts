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

t.test('the page in docs is up to date (npm run docs)', async (t) => {
  const { target } = await start(t)
  const { json } = await request(target, 'GET', `${A}/openapi.json`)
  const page = readFileSync('docs/transfers-api.md', 'utf8')
  t.equal(page.slice(page.indexOf(BEGIN)), reference(json as object, A))
})
