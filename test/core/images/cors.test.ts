import t from 'tap'
import { allowCrossOrigin, isPreflightForToken } from '../../../core/images/cors.js'
import { exchangeWith } from '../http/exchanges.js'

function allowed(headers: Record<string, string>, method = 'GET'): Record<string, unknown> {
  const { exchange, response } = exchangeWith(headers, { method })
  allowCrossOrigin(exchange)
  return { ...response.getHeaders() }
}

const AGE = { 'access-control-max-age': '86400' }

t.test('who does not ask gets nothing', async (t) => {
  t.strictSame(allowed({}), {})
  t.strictSame(allowed({ origin: '' }), {})
})

t.test('any origin may use the API and read its fields', async (t) => {
  t.strictSame(allowed({ origin: 'https://portal' }), {
    'access-control-allow-origin': '*',
    'access-control-expose-headers':
      'content-range,content-disposition,content-length,accept-ranges,etag,content-digest',
    ...AGE,
  })
})

t.test('a preflight is told what it asks', async (t) => {
  t.strictSame(allowed({ 'access-control-request-headers': 'content-range' }, 'OPTIONS'), {
    'access-control-allow-headers': '*',
    ...AGE,
  })
  t.strictSame(allowed({ 'access-control-request-method': 'PATCH' }, 'OPTIONS'), {
    'access-control-allow-methods': 'OPTIONS,GET,PUT,PATCH',
    ...AGE,
  })
  t.match(allowed({ 'access-control-request-method': 'GET' }, 'GET'), {
    'access-control-allow-methods': '*',
  })
})

t.test('a token is sent in a header that has to be allowed by name', async (t) => {
  for (const names of ['authorization', 'Authorization', 'content-range, AUTHORIZATION']) {
    t.match(allowed({ 'access-control-request-headers': names }, 'OPTIONS'), {
      'access-control-allow-headers': '*,authorization',
    })
  }
  t.match(allowed({ 'access-control-request-headers': 'x-authorization' }, 'OPTIONS'), {
    'access-control-allow-headers': '*',
  })
})

t.test('the question for a token is known by what it asks', async (t) => {
  const is = (headers: Record<string, string>, method = 'OPTIONS'): boolean =>
    isPreflightForToken(exchangeWith(headers, { method }).exchange)
  const method = { 'access-control-request-method': 'GET' }
  const names = { 'access-control-request-headers': 'authorization' }
  t.equal(is({ ...method, ...names }), true)
  t.equal(is({ ...method, ...names }, 'GET'), false)
  t.equal(is(method), false)
  t.equal(is(names), false)
})
