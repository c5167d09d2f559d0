import t from 'tap'
import { parseQuery } from '../../../core/http/query.js'

const entries = (target: string): [string, string][] => [...parseQuery(target)]

t.test('a target without a query has no keys', async (t) => {
  t.strictSame(entries('/images/t'), [])
  t.strictSame(entries('/images/t?'), [])
  t.strictSame(entries(''), [])
})

t.test('everything behind the first question mark is the query', async (t) => {
  t.strictSame(entries('/images/t?flush=n&close=y'), [
    ['flush', 'n'],
    ['close', 'y'],
  ])
  t.strictSame(entries('/t?a=b?c'), [['a', 'b?c']])
})

t.test('keys and values are form-decoded', async (t) => {
  t.strictSame(entries('/t?a%20b=c+d&%66lush=%6e'), [
    ['a b', 'c d'],
    ['flush', 'n'],
  ])
})

t.test('blank values are kept, and the last of repeated keys wins', async (t) => {
  t.strictSame(entries('/t?flush=&close'), [
    ['flush', ''],
    ['close', ''],
  ])
  t.equal(parseQuery('/t?flush=y&flush=n').get('flush'), 'n')
})

t.test('case counts', async (t) => {
  t.equal(parseQuery('/t?Flush=y').get('flush'), undefined)
  t.equal(parseQuery('/t?flush=Y').get('flush'), 'Y')
})

t.test('keys of Object.prototype are keys', async (t) => {
  t.strictSame(entries('/t?__proto__=a&constructor=b'), [
    ['__proto__', 'a'],
    ['constructor', 'b'],
  ])
})

t.test('what cannot be decoded is no error', async (t) => {
  t.strictSame(entries('/t?a=%&b=%zz'), [
    ['a', '%'],
    ['b', '%zz'],
  ])
})
