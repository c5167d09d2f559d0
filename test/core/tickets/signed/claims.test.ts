import t from 'tap'
import { toJson } from '../../../../core/json.js'
import { checkTimes, parseClaims } from '../../../../core/tickets/signed/claims.js'
import { AUDIENCE, claims, type ClaimFields } from './tokens.js'

const options = {
  audience: [AUDIENCE, 'site'],
  maxLifetime: 3600,
  clockTolerance: 5,
  inactivityTimeout: 60,
  normalizeUrl: (url: string): string => {
    if (!url.startsWith('file:')) throw new Error('not a file')
    return url
  },
}

const parse = (fields: ClaimFields | string) =>
  parseClaims(Buffer.from(typeof fields === 'string' ? fields : toJson(fields)), options)

const refused = (fields: ClaimFields | string): string => {
  try {
    parse(fields)
    return 'accepted'
  } catch (error) {
    return error instanceof Error && error.name === 'TokenRefusedError'
      ? error.message
      : String(error)
  }
}

t.test('the claims of a ticket come out as its definition', async (t) => {
  const all = claims({
    ...{ transfer_id: 'backup-17', ops: ['write', 'read'], sparse: true, dirty: true },
    ...{ filename: 'größe.img', inactivity_timeout: 7, iat: 1000, nbf: 1200, exp: 2000.5 },
  })
  const { definition, transferId, expires, notBefore } = parse(all)
  t.match(definition, {
    transferId: 'backup-17',
    url: 'file:///images/disk',
    ops: ['read', 'write'],
    size: 1000,
    sparse: true,
    dirty: true,
    filename: 'größe.img',
    inactivityTimeout: 7,
  })
  t.strictSame(
    { transferId, expires, notBefore },
    { transferId: 'backup-17', expires: 2000.5, notBefore: 1200 },
  )
})

t.test('what may be missing has the defaults of an installed ticket', async (t) => {
  const { definition, notBefore } = parse(claims({ iat: 1000, exp: 2000 }))
  t.match(definition, { sparse: false, dirty: false, inactivityTimeout: 60 })
  t.equal(definition.filename, undefined)
  t.equal(notBefore, 1000)
})

t.test('what is required is required', async (t) => {
  for (const key of ['aud', 'iat', 'exp', 'transfer_id', 'url', 'ops', 'size']) {
    t.match(refused(claims({ [key]: undefined })), new RegExp(`^(${key} is missing|${key})`), key)
  }
})

t.test('values of the wrong type are refused, by name', async (t) => {
  const wrong: Record<string, unknown[]> = {
    aud: [null, 7, {}, [7], [[AUDIENCE]], ['site', 7]],
    iat: [null, '1', -1, true, [], 2n ** 60n],
    exp: [null, '9999999999', -1, false, {}, 2n ** 63n],
    nbf: [null, '1', -1, true, 2n ** 63n],
    transfer_id: [null, 7, {}, ['a']],
    url: [null, 7, {}, ['file:///a']],
    ops: [null, 'read', {}, ['execute'], [7], ['read', null], []],
    size: [null, '1000', -1, 1.5, true, 2n ** 64n + 1n],
    sparse: [null, 'true', 1],
    dirty: [null, 'true', 0],
    filename: [null, 7, ['a'], 'a\r\nb', 'f'.repeat(256)],
    inactivity_timeout: [null, '7', 0, -1, 1.5],
  }
  for (const [key, values] of Object.entries(wrong)) {
    for (const value of values) {
      t.match(
        refused(claims({ [key]: value })),
        new RegExp(`^${key}\\b`),
        `${key} ${toJson(value)}`,
      )
    }
  }
})

t.test('a transfer id is one segment of a path, whoever writes it', async (t) => {
  for (const id of [
    'a',
    '0',
    '7c1d4240-9a9e-4f2b-8f57-1f1f6f1b3a11',
    'A.b_c~d-e',
    'x'.repeat(128),
  ]) {
    t.equal(refused(claims({ transfer_id: id })), 'accepted', id)
  }
  for (const id of [
    '',
    '.',
    '..',
    '-a',
    'a/b',
    'a/extents',
    '*',
    'a b',
    'a%2e',
    'é',
    'a\n',
    'x'.repeat(129),
  ]) {
    t.match(refused(claims({ transfer_id: id })), /^transfer_id/, JSON.stringify(id))
  }
})

t.test('one audience of several is enough, and none is not', async (t) => {
  t.equal(refused(claims({ aud: 'site' })), 'accepted')
  t.equal(refused(claims({ aud: ['other', 'site'] })), 'accepted')
  for (const aud of ['other', '', 'SITE', 'site ', `${AUDIENCE}.evil`, [], ['other']]) {
    t.match(refused(claims({ aud })), /^aud is another/, JSON.stringify(aud))
  }
})

t.test('a lifetime is bounded, from when it was issued', async (t) => {
  t.equal(refused(claims({ iat: 1000, exp: 4600 })), 'accepted')
  t.match(refused(claims({ iat: 1000, exp: 4600.5 })), /^exp is more than/)
  // Else a token made ahead would outlive a revocation.
  t.match(refused(claims({ iat: 1000, nbf: 90_000, exp: 93_000 })), /^exp is more than/)
})

t.test('sizes keep all digits, and zero is one', async (t) => {
  for (const size of [0, 1, 2 ** 53 - 1, 9007199254740993n, 2n ** 64n]) {
    t.equal(parse(claims({ size })).definition.size, size)
  }
})

t.test('the server says which URLs are good', async (t) => {
  t.equal(refused(claims({ url: 'nbd:unix:/run/sock' })), 'url: not a file')
  t.match(refused(claims({ url: '' })), /^url/)
})

t.test('claims are a JSON object, and those nobody knows are ignored', async (t) => {
  t.equal(
    refused(claims({ iss: 'engine', sub: 'user', jti: '1', uuid: 7, timeout: 'x' })),
    'accepted',
  )
  for (const text of ['[]', 'null', '7', '"x"'])
    t.match(refused(text), /^the claims are not a JSON/, text)
  for (const text of ['', '{', '{"aud":}', '['.repeat(900)]) {
    t.equal(refused(text), 'the claims are not JSON', text.slice(0, 9))
  }
})

t.test('equal rights have one id, others another', async (t) => {
  const base = claims({ transfer_id: 'x', iat: 1000, exp: 2000 })
  const idOf = (fields: ClaimFields): string => parse({ ...base, ...fields }).definition.id
  const id = idOf({})
  t.match(id, /^[0-9a-f]{32}-signed$/)
  t.equal(idOf({ iat: 1500, exp: 3000, nbf: 1600, aud: ['site'], sparse: false }), id)
  t.equal(idOf({ ops: ['read', 'read'] }), id)
  const changes = [
    { ops: ['write'] },
    { size: 1001 },
    { url: 'file:///images/other' },
    { transfer_id: 'y' },
    { sparse: true },
    { dirty: true },
    { filename: 'f' },
    { inactivity_timeout: 5 },
    { max_bytes_per_second: 5 },
  ]
  t.equal(new Set([id, ...changes.map(idOf)]).size, changes.length + 1)
})

t.test('times are good to the tolerance, and no further', async (t) => {
  const times = { issued: 1000, notBefore: 1000, expires: 2000 }
  for (const now of [995, 1000, 1999, 2000, 2004.9]) {
    t.doesNotThrow(() => checkTimes(times, now, 5), String(now))
  }
  for (const now of [0, 994.9]) t.throws(() => checkTimes(times, now, 5), { message: /to come/ })
  for (const now of [2005, 1e10]) t.throws(() => checkTimes(times, now, 5), { message: /over/ })
  t.throws(() => checkTimes(times, 2000, 0), { message: /over/ })
})
