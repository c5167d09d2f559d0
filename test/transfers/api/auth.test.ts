/** Logins: tokens, Basic, cookies; what they cost and how often they may fail. */
import t from 'tap'
import { ManualClock } from '../manual-clock.js'
import { request, type Reply } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { A, BASIC, OneUser, PASSWORD, start, USER } from './start.js'
import { Failures } from '../../../transfers/api/auth/failures.js'
import { Logins } from '../../../transfers/api/auth/logins.js'
import { Sessions } from '../../../transfers/api/auth/sessions.js'

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`

const form = (values: Record<string, string>): string => new URLSearchParams(values).toString()
const TOKEN = '/ovirt-engine/sso/oauth/token'
const RIGHT = { grant_type: 'password', scope: 'ovirt-app-api', username: USER, password: PASSWORD }

t.test('without valid credentials the answer is 401 and says how', async (t) => {
  const { ask } = await start(t)
  for (const authorization of [
    '',
    'Bearer unknown',
    'Bearer ',
    'Basic',
    'Basic !!!',
    `Basic ${Buffer.from('nocolon').toString('base64')}`,
    basic(USER, ''),
    basic('', PASSWORD),
    basic('admin', PASSWORD),
    'Digest x',
  ]) {
    const { status, headers, text } = await ask('GET', A, { headers: { authorization } })
    t.equal(status, 401, authorization)
    t.equal(headers['www-authenticate'], 'Basic realm="RESTAPI"')
    t.match(text, '<reason>Unauthorized</reason>')
  }
  t.equal((await ask('GET', '/none', { headers: { authorization: '' } })).status, 401)
  t.equal((await ask('POST', '/disks', { headers: { authorization: '' }, body: '<' })).status, 401)
})

t.test('a token is got by POST and by GET, and given back', async (t) => {
  const { target, ask } = await start(t)
  const tokens = new Set<string>()
  for (const reply of [
    await request(target, 'POST', TOKEN, { body: form(RIGHT) }),
    await request(target, 'GET', `${TOKEN}?${form(RIGHT)}`),
    await request(target, 'POST', `${TOKEN}-http-auth`, {
      body: form({ grant_type: 'urn:ovirt:params:oauth:grant-type:http' }),
      headers: { authorization: BASIC },
    }),
  ]) {
    t.equal(reply.status, 200)
    t.equal(reply.headers['cache-control'], 'no-store')
    t.match(reply.json, { token_type: 'bearer', exp: '9223372036854775807' })
    tokens.add((reply.json as { access_token: string }).access_token)
  }
  t.equal(tokens.size, 3)
  for (const token of tokens) {
    t.match(token, /^[\w-]{43}$/)
    const headers = { authorization: `Bearer ${token}` }
    t.equal((await ask('GET', A, { headers })).status, 200)
    const body = form({ token })
    t.strictSame(
      (await request(target, 'POST', '/ovirt-engine/sso/oauth/revoke', { body })).json,
      {},
    )
    t.equal((await ask('GET', A, { headers })).status, 401)
  }
  const unknown = await request(target, 'POST', '/ovirt-engine/services/sso-logout', {
    body: form({ token: 'x' }),
  })
  t.equal(unknown.text, '{}')
})

t.test('a token ends with the password that it was given for', async (t) => {
  const { target, ask, users } = await start(t)
  const { json } = await request(target, 'POST', TOKEN, { body: form(RIGHT) })
  const { access_token: token } = json as { access_token: string }
  const headers = { authorization: `Bearer ${token}` }
  t.equal((await ask('GET', A, { headers })).status, 200)
  users.password = 'other'
  t.equal((await ask('GET', A, { headers })).status, 401)
  users.password = PASSWORD
  t.equal((await ask('GET', A, { headers })).status, 401, 'for good')
})

t.test('requests for tokens that are wrong say why, in JSON', async (t) => {
  const { target } = await start(t)
  const cases: [string, Record<string, string>][] = [
    ['invalid_request', {}],
    ['unsupported_grant_type', { ...RIGHT, grant_type: 'code' }],
    ['invalid_request', { grant_type: 'password', username: USER }],
    ['access_denied', { ...RIGHT, password: 'x' }],
    ['access_denied', { ...RIGHT, username: 'admin' }],
  ]
  for (const [code, values] of cases) {
    const { status, json, headers } = await request(target, 'POST', TOKEN, { body: form(values) })
    t.equal(status, 400)
    t.match(headers['content-type'], 'application/json')
    t.match(json, { error_code: code, error: /./ })
  }
  t.equal((await request(target, 'POST', TOKEN)).status, 400)
  t.equal((await request(target, 'PUT', TOKEN)).status, 404)
})

/** Time passes until it is answered. */
async function answered<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  let isSettled = false
  const settle = (): void => void (isSettled = true)
  promise.then(settle, settle)
  const step = (): boolean => {
    clock.advance(50)
    return isSettled
  }
  await until('an answer', step, { everyMs: 1 })
  return promise
}

t.test(
  'after failed logins right passwords pass, known or not, and failures are slow',
  async (t) => {
    const clock = new ManualClock()
    const users = new OneUser()
    const limits = { maxFailures: 3, windowMs: 60_000, maxAddresses: 10 }
    const logins = new Logins(users, new Failures(limits, () => clock.now()), clock)
    const [known, other] = ['192.0.2.1', '192.0.2.2']
    const login = (password: string, address = known): Promise<boolean> =>
      logins.isRight(USER, password, address)
    t.ok(await login(PASSWORD))
    for (const wrong of ['a', 'b', 'c']) t.notOk(await login(wrong))
    const { checks } = users
    for (let index = 0; index < 20; index++) {
      t.notOk(await answered(clock, login('a')), 'said at once, as it was said before')
    }
    t.equal(users.checks, checks)
    // Of an attacker who does not wait for answers.
    const guesses = Array.from({ length: 40 }, (_, n) => login(`x${n}`).catch(String))
    const begin = clock.now()
    t.ok(await answered(clock, login(PASSWORD)))
    t.ok(clock.now() - begin < 5000, 'after the others, but not after their checks')
    t.equal(users.checks, checks + 1)
    t.ok(await login(PASSWORD, other), 'no other address is slow')
    t.notOk(await login('x', other))
    const told = await answered(clock, Promise.all(guesses))
    t.equal(told.filter((each) => each === false).length, 9, 'one, and those that may wait')
    t.match(told.filter((each) => each !== false)[0], /Too many logins/)
    clock.advance(60_000)
    for (const wrong of ['d', 'e', 'f']) t.notOk(await login(wrong))
    users.password = 'new'
    const slow = login('g')
    const fresh = login('new')
    t.notOk(await answered(clock, slow))
    t.ok(await answered(clock, fresh), 'a right one nobody has seen')
  },
)

t.test('what is known is found at a pace that is no means to guess', async (t) => {
  const clock = new ManualClock()
  const users = new OneUser()
  const limits = { maxFailures: 1, windowMs: 60_000, maxAddresses: 10 }
  const logins = new Logins(users, new Failures(limits, () => clock.now()), clock)
  const login = (password: string): Promise<boolean> => logins.isRight(USER, password, '::1')
  t.ok(await login(PASSWORD))
  t.notOk(await login('x'))
  const begin = clock.now()
  for (let index = 0; index < 10; index++) t.ok(await answered(clock, login(PASSWORD)))
  t.ok(clock.now() - begin >= 900)
  const many = Array.from({ length: 70 }, () => login(PASSWORD).catch(() => 'refused'))
  const told = await answered(clock, Promise.all(many))
  t.ok(told.filter((each) => each === true).length >= 64)
  t.ok(told.includes('refused'))
  const late = login(PASSWORD).then(() => login(PASSWORD))
  await Promise.resolve()
  logins.close()
  t.type(await late.catch(String), 'string', 'the end of the service is waited for by nobody')
})

t.test('many tries at once are no way around, and many right ones no failure', async (t) => {
  const failures = { maxFailures: 3, windowMs: 60_000, maxAddresses: 10 }
  const clock = new ManualClock()
  const { ask, users, target, close } = await start(t, { failures, clock })
  const login = (password: string): Promise<Reply> =>
    request(target, 'POST', TOKEN, { body: form({ ...RIGHT, password }) })
  const right = await Promise.all(Array.from({ length: 20 }, () => login(PASSWORD)))
  t.ok(right.every(({ status }) => status === 200))
  t.ok(users.checks <= 2, 'those that ran side by side')
  const before = users.checks
  const replies: Reply[] = []
  for (let index = 0; index < 20; index++) {
    void login(`x${index}`).then((reply) => replies.push(reply))
  }
  // 3 are free, one more may run beside, one has its turn at once, 8 wait.
  const step = (): boolean => {
    clock.advance(50)
    return replies.length >= 11
  }
  await until('the others are answered', step)
  const refused = replies.filter(({ status }) => status === 429)
  t.ok(refused.length >= 6)
  t.equal(refused[0]?.headers['retry-after'], '5')
  t.match(refused[0]?.json, { error_code: 'access_denied', error: /Too many/ })
  t.ok(users.checks - before <= 6)
  const known = ask('GET', A)
  t.equal((await answered(clock, known)).status, 200)
  await close()
})

t.test('pages of other origins may read with a password, and change nothing', async (t) => {
  const { ask, target } = await start(t)
  const from = (origin: string): Promise<number> =>
    ask('POST', '/disks', { headers: { origin }, body: '<' }).then(({ status }) => status)
  t.equal(await from('https://evil.example'), 403)
  t.equal(await from('null'), 403)
  t.equal(await from(`http://${target.host}:${target.port}`), 400)
  const headers = { origin: 'https://evil.example' }
  t.equal((await ask('GET', '/disks', { headers })).status, 200)
})

t.test('a right password is looked at once, until it changes', async (t) => {
  const { ask, users } = await start(t)
  for (let index = 0; index < 5; index++) t.equal((await ask('GET', A)).status, 200)
  t.equal(users.checks, 1)
  users.password = 'other'
  t.equal((await ask('GET', A)).status, 401)
})

t.test(
  'tokens end when idle, and the least recently used go when there are too many',
  async (t) => {
    let now = 0
    const sessions = new Sessions({ idleMs: 100, maxSessions: 3 }, () => now)
    const login = (user: string) => ({ user, credential: '' })
    const first = sessions.open(login('a'))
    now = 90
    t.equal(sessions.login(first)?.user, 'a')
    now = 180
    t.equal(sessions.login(first)?.user, 'a', 'use keeps it')
    now = 281
    t.equal(sessions.login(first)?.user, undefined)
    const tokens = ['b', 'c', 'd'].map((user) => sessions.open(login(user)))
    t.equal(sessions.login(tokens[0]!)?.user, 'b')
    sessions.open(login('e'))
    t.strictSame(
      tokens.map((token) => sessions.login(token)?.user),
      ['b', undefined, 'd'],
    )
    const short = sessions.open(login('f'), 10)
    now += 11
    t.equal(sessions.login(short)?.user, undefined)
    t.equal(sessions.login('')?.user, undefined)
  },
)

t.test('addresses are counted in bounded memory, IPv6 by network', async (t) => {
  const failures = new Failures({ maxFailures: 1, windowMs: 1000, maxAddresses: 2 }, () => 0)
  failures.add('2001:db8::1')
  t.equal(failures.areTooMany('2001:db8:0:0:5::9'), true)
  t.equal(failures.areTooMany('2001:db8:0:1::1'), false)
  failures.add('192.0.2.1')
  failures.add('192.0.2.2')
  t.equal(failures.areTooMany('2001:db8::1'), false, 'the oldest is forgotten')
  t.equal(failures.areTooMany('192.0.2.1'), true)
})

t.test('the authority’s certificate is there for everybody', async (t) => {
  const { target } = await start(t, { ca: Buffer.from('PEM') })
  const path = '/ovirt-engine/services/pki-resource?resource=ca-certificate'
  for (const more of ['', '&format=X509-PEM-CA']) {
    const { text, headers } = await request(target, 'GET', path + more)
    t.equal(text, 'PEM')
    t.equal(headers['content-type'], 'application/x-x509-ca-cert')
  }
  t.equal((await request(target, 'GET', `${path}&format=OPENSSH-PUBKEY`)).status, 404)
  const other = await start(t)
  t.equal((await request(other.target, 'GET', path)).status, 404)
})
