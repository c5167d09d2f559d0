import t from 'tap'
import {
  parseChange,
  parseDefinition,
  type TicketDefinition,
} from '../../../core/tickets/definition.js'

const ID = '5f0a3b6a-526d-4e8e-9a3c-5b1f6c1f7a10'
const VALID = { uuid: ID, size: 8192, ops: ['read'], timeout: 300, url: 'file:///disk' }
const INVALID = { code: 'ERR_TICKET_INVALID', statusCode: 400 }

const parse = (json: unknown): TicketDefinition =>
  parseDefinition(json, {
    inactivityTimeout: 60,
    normalizeUrl: (url) => {
      if (!/^file:/i.test(url)) throw new Error('unknown scheme')
      return url.replace(/^file:\/?(?=\/[^/])/i, 'file:///').replace('////', '///')
    },
  })

/** A definition with these members instead. */
const withMembers = (members: object): TicketDefinition => parse({ ...VALID, ...members })

function without(key: string): object {
  return Object.fromEntries(Object.entries(VALID).filter(([name]) => name !== key))
}

t.test('what is not given gets its default', async (t) => {
  t.strictSame(parse(VALID), {
    id: ID,
    size: 8192,
    ops: ['read'],
    timeout: 300,
    inactivityTimeout: 60,
    url: 'file:///disk',
    transferId: '(ticket/5f0a3b6a-526d-4e8e)',
    filename: undefined,
    sparse: false,
    replaces: false,
    missing: [],
    dirty: false,
    maxBytesPerSecond: 0,
  })
})

t.test('what is given is taken', async (t) => {
  const members = {
    ...{ inactivity_timeout: 5, transfer_id: 'tr', filename: 'ä.raw', sparse: true, dirty: true },
    ...{ ops: ['read', 'write'], timeout: 0, size: 0, max_bytes_per_second: 7 },
  }
  t.match(withMembers(members), {
    ...{ inactivityTimeout: 5, transferId: 'tr', filename: 'ä.raw', sparse: true, dirty: true },
    ...{ ops: ['read', 'write'], timeout: 0, size: 0, maxBytesPerSecond: 7 },
  })
})

t.test('unknown members are ignored', async (t) => {
  t.strictSame(withMembers({ comment: 'hello', id: 'other' }), parse(VALID))
})

t.test('the body must be an object', async (t) => {
  for (const json of [undefined, null, 1, 'text', true, [], [VALID], 1n]) {
    t.throws(() => parse(json), { ...INVALID, message: 'the body is not a JSON object' })
  }
})

t.test('each required member is missed by its name', async (t) => {
  for (const key of Object.keys(VALID)) {
    t.throws(() => parse(without(key)), { ...INVALID, message: `${key} is missing` })
  }
})

t.test('members that only a prototype has are missing', async (t) => {
  t.throws(() => parse(Object.create(VALID)), INVALID)
})

t.test('every member has its type, and null is none', async (t) => {
  const wrong: Record<string, unknown[]> = {
    uuid: [1, null, true, ['a'], {}, ''],
    size: ['1', null, true, false, 1.5, NaN, -1, -1n, 2n ** 64n + 1n, 1e300],
    ops: ['read', null, {}, 1, ['READ'], ['read', 'delete'], [1], [null], [['read']]],
    timeout: ['1', null, true, 1.5, -1, -1n],
    url: [1, null, true, {}, ['file:///disk']],
    inactivity_timeout: ['1', null, true, 1.5, 0, -1, 0n],
    transfer_id: [1, null, true],
    filename: [1, null, true, 'a\r\nb', 'a\nb', 'a\u0000', 'a\u007f', 'a\u0085', '\t'],
    sparse: [0, 1, null, 'true', 'n'],
    dirty: [0, 1, null, 'true', 'n'],
    max_bytes_per_second: ['1', null, true, 1.5, -1, -1n, '10M'],
  }
  for (const [key, values] of Object.entries(wrong)) {
    for (const value of values) {
      const seen = { ...INVALID, message: new RegExp(`^${key} `) }
      t.throws(() => withMembers({ [key]: value }), seen, `${key}: ${String(value)}`)
    }
  }
})

t.test('sizes are exact up to 2^64', async (t) => {
  t.equal(withMembers({ size: 2n ** 64n }).size, 2n ** 64n)
  t.equal(withMembers({ size: 2n ** 53n + 1n }).size, 2n ** 53n + 1n)
  t.equal(withMembers({ size: Number.MAX_SAFE_INTEGER }).size, Number.MAX_SAFE_INTEGER)
})

t.test('times are bounded by what the engine holds', async (t) => {
  t.equal(withMembers({ timeout: 2 ** 31 - 1 }).timeout, 2 ** 31 - 1)
  t.equal(withMembers({ timeout: 2 ** 31 }).timeout, 2 ** 31 - 1)
  t.equal(withMembers({ timeout: 2n ** 70n }).timeout, 2 ** 31 - 1)
  t.equal(withMembers({ inactivity_timeout: 2n ** 70n }).inactivityTimeout, 2 ** 31 - 1)
})

t.test('a limit of any size is one', async (t) => {
  t.equal(withMembers({ max_bytes_per_second: 0 }).maxBytesPerSecond, 0)
  t.equal(withMembers({ max_bytes_per_second: 2n ** 60n }).maxBytesPerSecond, 2 ** 53 - 1)
})

t.test('ops may be empty and may repeat', async (t) => {
  t.strictSame(withMembers({ ops: [] }).ops, [])
  t.strictSame(withMembers({ ops: ['read', 'read'] }).ops, ['read', 'read'])
})

t.test('a URL takes its normal form, or says what is wrong', async (t) => {
  t.equal(withMembers({ url: 'FILE:/disk' }).url, 'file:///disk')
  t.throws(() => withMembers({ url: 'ftp:///disk' }), {
    ...INVALID,
    message: 'url: unknown scheme',
    cause: new Error('unknown scheme'),
  })
})

t.test('an empty transfer id is one, an empty file name is none', async (t) => {
  t.equal(withMembers({ transfer_id: '' }).transferId, '')
  t.equal(withMembers({ filename: '' }).filename, undefined)
})

t.test('half a character in a file name becomes a whole one', async (t) => {
  t.equal(withMembers({ filename: 'a\ud83d' }).filename, 'a\ufffd')
})

t.test('errors do not tell the ticket id', async (t) => {
  for (const members of [{ size: -1 }, { url: 'ftp:x' }, { filename: '\n' }, { ops: 1 }]) {
    try {
      withMembers(members)
      t.fail('must throw')
    } catch (error) {
      t.notOk(String(error).includes(ID))
    }
  }
})

t.test('a change is a number of seconds, a limit, or both', async (t) => {
  const timeoutOf = (json: unknown): unknown => parseChange(json).timeout
  t.equal(timeoutOf({ timeout: 0 }), 0)
  t.equal(timeoutOf({ timeout: 300, size: 'ignored' }), 300)
  t.equal(timeoutOf({ timeout: 2n ** 70n }), 2 ** 31 - 1)
  const limit = (value: unknown) => ({ max_bytes_per_second: value })
  t.strictSame(parseChange(limit(5)), { timeout: undefined, maxBytesPerSecond: 5 })
  t.strictSame(parseChange({ timeout: 1, ...limit(0) }), { timeout: 1, maxBytesPerSecond: 0 })
  const wrong = [null, [], 300, {}, { timeout: -1 }, { timeout: true }, { timeout: '1' }]
  for (const json of [...wrong, limit(-1), limit(null), limit('1'), { ...limit(1), timeout: -1 }]) {
    t.throws(() => parseChange(json), INVALID, JSON.stringify(json))
  }
})
