import { createHash } from 'node:crypto'
import t from 'tap'
import {
  contentDigest,
  parseContentDigest,
  wantedDigest,
} from '../../../core/http/digest-fields.js'

const sha256 = createHash('sha256').update('hello').digest()
const sha512 = createHash('sha512').update('hello').digest()

t.test('what is written is read', async (t) => {
  const field = `${contentDigest('sha-256', sha256)}, ${contentDigest('sha-512', sha512)}`
  t.match(field, /^sha-256=:LPJNul\+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:/)
  t.strictSame(parseContentDigest(field), [
    { algorithm: 'sha-256', digest: sha256 },
    { algorithm: 'sha-512', digest: sha512 },
  ])
  t.strictSame(parseContentDigest(undefined), [])
})

t.test('unknown algorithms are ignored, whatever they say', async (t) => {
  const field = `md5=:aa==:, crc32c=5, x, ${contentDigest('sha-256', sha256)};q=1`
  t.strictSame(parseContentDigest(field), [{ algorithm: 'sha-256', digest: sha256 }])
  t.strictSame(parseContentDigest('sha=:2jmj7l5rSw0yVb/vlWAYkK/YBwk=:'), [])
})

t.test('a digest that is none is refused', async (t) => {
  for (const field of [
    'sha-256',
    'sha-256=5',
    'sha-256=::',
    'sha-256=:aa==:',
    `sha-256=${sha256.toString('base64')}`,
    `sha-256=:${sha256.toString('hex')}:`,
    `sha-256=:${sha512.toString('base64')}:`,
    `sha-512=:${sha256.toString('base64')}:`,
    `SHA-256=:${sha256.toString('base64')}:`,
    ',',
  ]) {
    t.throws(() => parseContentDigest(field), { code: 'ERR_BAD_REQUEST' }, field)
  }
})

t.test('the algorithm liked best is chosen; a wish nobody understands is none', async (t) => {
  const cases: [string, string | undefined][] = [
    ['sha-256=1', 'sha-256'],
    ['sha-256=3, sha-512=5', 'sha-512'],
    ['sha-512=10, sha-256=10, md5=10', 'sha-512'],
    ['sha-256=0', undefined],
    ['sha-256=0, sha-512=1', 'sha-512'],
    ['sha-256=11, sha-512=1.5, unixsum=3', undefined],
    ['sha-256', undefined],
    ['sha-256=', undefined],
    ['', undefined],
  ]
  for (const [field, wanted] of cases) t.equal(wantedDigest(field), wanted, field)
  t.equal(wantedDigest(undefined), undefined)
})
