import { randomBytes } from 'node:crypto'
import { unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { TicketGate } from '../../../../core/tickets/gate.js'
import { signedTicketsSchema } from '../../../../core/tickets/signed/config.js'
import { SignedTickets } from '../../../../core/tickets/signed/signed-tickets.js'
import { TicketStore } from '../../../../core/tickets/store.js'
import { Ticket } from '../../../../core/tickets/ticket.js'
import type { TicketOp } from '../../../../core/tickets/definition.js'
import { recordingLogger } from '../../http/exchanges.js'
import { definition } from '../tickets.js'
import {
  AUDIENCE,
  claims,
  ed25519,
  encode,
  hmacToken,
  keyDirectory,
  p256,
  pemOf,
  signatureOf,
  token,
  type ClaimFields,
  type Pair,
} from './tokens.js'

const defaults = Object.fromEntries(
  Object.entries(signedTicketsSchema.signed_tickets).map(([key, option]) => [key, option.default]),
) as { [Key in keyof typeof signedTicketsSchema.signed_tickets]: never }

/** Signed tickets with one key, `engine`, and clocks that go with the test. */
async function open(t: Test, settings: Record<string, unknown> = {}, pair: Pair = ed25519()) {
  const keys = keyDirectory(t, { 'engine.pem': pemOf(pair) })
  const { logger, lines } = recordingLogger()
  const clock = { seconds: 1_000_000 }
  const store = new TicketStore({ expiredGrace: 60, logger, clock: () => clock.seconds })
  t.teardown(() => store.close())
  const config = { ...defaults, keys, audience: AUDIENCE, ...settings }
  const definitions = { inactivityTimeout: 60, normalizeUrl: (url: string) => url }
  const now = (): number => clock.seconds
  const signed = await SignedTickets.open({ config, definitions, store, logger, now })
  t.teardown(() => signed.close())
  const gate = new TicketGate(store, signed)

  const make = (fields: ClaimFields = {}, header: object = {}, by = pair): string =>
    token(by, { alg: by.alg, kid: 'engine', ...header }, claims(fields, clock.seconds))
  const ask = async (id: string, op: TicketOp = 'read', authorization?: string): Promise<Ticket> =>
    gate.authorize({ id, logger, header: () => authorization }, op)
  const askAtOnce = (id: string): unknown =>
    gate.authorize({ id, logger, header: () => undefined }, 'read')
  /** What a client is told, with the reason that only the log has. */
  const refusal = async (id: string, op: TicketOp = 'read', authorization?: string) => {
    lines.length = 0
    const error = await ask(id, op, authorization).then(
      () => undefined,
      (reason: unknown) => reason as Error & { code: string; statusCode: number },
    )
    const logged = lines.find(({ msg }) => msg === 'signed ticket refused')
    const { code, statusCode, message } = error ?? {}
    return { answer: { code, statusCode, message }, reason: logged?.['reason'] as string }
  }
  return { keys, pair, store, signed, gate, clock, lines, make, ask, askAtOnce, refusal }
}

const DENIED = { code: 'ERR_TICKET_DENIED', statusCode: 403, message: 'there is no such ticket' }

t.test('a token becomes a ticket at its first use, and is known from then on', async (t) => {
  const { store, make, ask, askAtOnce } = await open(t)
  const made = make({ transfer_id: 'backup-17', ops: ['write'] })
  t.ok(askAtOnce(made) instanceof Promise, 'verified')
  const ticket = await ask(made)
  t.equal(askAtOnce(made), ticket, 'not verified again')
  t.strictSame(store.list(), [ticket])
  t.match(ticket.info(), { signed: true, transfer_id: 'backup-17', size: 1000, ops: ['write'] })
  t.equal(ticket.definition.timeout, 605)
})

t.test('the header beside the path of the transfer does as well as the path', async (t) => {
  const { make, ask, refusal, pair, clock } = await open(t)
  const one = claims({ transfer_id: 'backup-17' }, clock.seconds)
  const made = token(pair, { alg: 'EdDSA' }, one)
  const ticket = await ask('backup-17', 'read', `Bearer ${made}`)
  t.equal(await ask(made), ticket)
  t.match(await refusal('backup-18', 'read', `Bearer ${made}`), {
    answer: DENIED,
    reason: 'the path names another transfer',
  })
  const fresh = make({ transfer_id: 'backup-19' })
  t.match(await refusal(fresh, 'read', `Bearer ${fresh}`), { answer: DENIED, reason: /the path/ })
  t.match(await refusal('backup-17'), { answer: DENIED }, 'a transfer id alone is nothing')
  t.match(await refusal('backup-17', 'read', `Basic ${made}`), { answer: DENIED })
})

t.test('an installed ticket needs no token, and goes first', async (t) => {
  const { store, ask, refusal, make } = await open(t)
  const installed = definition({ id: 'backup-17', ops: ['write'] })
  await store.add(installed, 0)
  t.equal((await ask('backup-17', 'write')).isSigned, false)
  t.equal((await ask('backup-17', 'read', 'Bearer nonsense')).isSigned, false)
  t.match((await refusal('other')).answer, DENIED)
  t.equal((await ask(make({ transfer_id: 'backup-17' }))).isSigned, true)
})

t.test('the id of a signed ticket, which lists show, opens nothing', async (t) => {
  const { ask, make, refusal, store } = await open(t)
  const { definition } = await ask(make())
  t.match((await refusal(definition.id)).answer, DENIED)
  t.match((await refusal(definition.id, 'read', `Bearer ${definition.id}`)).answer, DENIED)
  t.equal(store.get(definition.id).isSigned, true, 'but the control service finds it')
  t.throws(() => store.authorize(definition.id, 'read'), DENIED)
})

t.test('every refusal has one answer, and its reason in the log', async (t) => {
  const { make, refusal, pair, clock } = await open(t)
  const other = ed25519()
  const es256 = p256()
  const now = clock.seconds
  const cases: [string, string, RegExp][] = [
    ['wrong key', make({}, {}, other), /^the signature/],
    ['unknown kid', make({}, { kid: 'other' }), /^kid is no key/],
    ['kid as a path', make({}, { kid: '../engine' }), /^kid is no key/],
    ['wrong algorithm for the key', make({}, {}, es256), /^alg is not the one/],
    ['no signature', `${encode({ alg: 'none' })}.${encode(claims())}.AA`, /^alg is not one/],
    ['HMAC', hmacToken(pemOf(pair), { alg: 'HS256', kid: 'engine' }, claims()), /^alg is not one/],
    ['HMAC under a good name', hmacToken(pemOf(pair), { alg: 'EdDSA' }, claims()), /^the sign/],
    ['crit', make({}, { crit: ['exp'], exp: 1 }), /^the header has "crit"/],
    ['key of its own', make({}, { jwk: other.publicKey.export({ format: 'jwk' }) }), /"jwk"/],
    ['other audience', make({ aud: 'other' }), /^aud/],
    ['over', make({ iat: now - 600, exp: now - 5 }), /^exp is over/],
    ['to come', make({ nbf: now + 6 }), /^nbf is to come/],
    ['made tomorrow', make({ iat: now + 6, exp: now + 60 }), /^iat is to come/],
    ['for ever', make({ exp: now + 86_401 }), /^exp is more than 86400 s/],
    ['no size', make({ size: undefined }), /^size is missing/],
    ['no JSON', token(pair, { alg: 'EdDSA' }, 'hello'), /^the claims are not JSON/],
    ['huge', make({ filename: 'x'.repeat(4000) }), /^longer than 3072/],
  ]
  for (const [name, text, reason] of cases) {
    for (const id of [text, 'x']) {
      if (id === text && !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(text)) continue
      const authorization = id === 'x' ? `Bearer ${text}` : undefined
      t.match(await refusal(id, 'read', authorization), { answer: DENIED, reason }, name)
    }
  }
})

t.test('ops are those of the token', async (t) => {
  const { make, ask, refusal } = await open(t)
  const made = make({ ops: ['read'] })
  for (const text of [made, made, make({ ops: ['read'], transfer_id: 'x' })]) {
    const { answer } = await refusal(text, 'write')
    t.match(answer, { code: 'ERR_TICKET_DENIED', message: 'the ticket does not allow write' })
  }
  await t.resolves(ask(made))
  await t.resolves(ask(make({ ops: ['write'] }), 'read'), 'write includes read')
})

t.test('all three algorithms', async (t) => {
  for (const pair of [ed25519('EdDSA'), ed25519('Ed25519'), p256()]) {
    const { make, ask } = await open(t, {}, pair)
    await t.resolves(ask(make()), pair.alg)
  }
})

t.test('a token that is known ends at its time, whatever was done with it', async (t) => {
  const { make, ask, refusal, clock, store } = await open(t)
  const made = make()
  const ticket = await ask(made)
  clock.seconds += 599
  ticket.touch()
  const use = (await ask(made)).begin('operation')
  use.progress(0, 10)
  clock.seconds += 5.5
  await t.resolves(ask(made), 'within the tolerance')
  clock.seconds += 0.5
  t.match(await refusal(made), { answer: DENIED, reason: 'exp is over' })
  use.progress(10, 10)
  use.end()
  clock.seconds += 1
  t.equal(ticket.isExpired, true, 'activity does not renew it')
  t.match(await refusal(made), { answer: DENIED, reason: 'exp is over' })
  t.throws(
    () => store.change(ticket.definition.id, { timeout: 600, maxBytesPerSecond: undefined }),
    { code: 'ERR_TICKET_INVALID' },
  )
  const both = { timeout: 600, maxBytesPerSecond: 5 }
  t.throws(() => store.change(ticket.definition.id, both), { code: 'ERR_TICKET_INVALID' })
  t.equal(ticket.rate.bytesPerSecond, 0)
  store.change(ticket.definition.id, { ...both, timeout: undefined })
  t.equal(ticket.rate.bytesPerSecond, 5)
})

t.test('a later token for the same rights goes on with the same ticket', async (t) => {
  const { make, ask, refusal, clock, store } = await open(t)
  const fields = { transfer_id: 'x' }
  const first = make(fields)
  const ticket = await ask(first)
  ticket.begin('operation').progress(0, 10)
  clock.seconds += 590
  const second = make(fields)
  t.equal(await ask(second), ticket)
  t.equal(ticket.secondsLeft, 605)
  t.equal(await ask(first), ticket, 'an older token does not shorten it')
  t.equal(ticket.secondsLeft, 605)
  clock.seconds += 20
  t.match(await refusal(first), { answer: DENIED, reason: 'exp is over' }, 'nor outlive itself')
  t.equal((await ask(second)).moved, 10)
  t.equal(store.list().length, 1)
  t.not(await ask(make({ ...fields, ops: ['write'] })), ticket)
})

t.test('many first requests at the same time share one ticket', async (t) => {
  const { make, ask, store } = await open(t)
  const made = make()
  const tickets = await Promise.all(Array.from({ length: 20 }, () => ask(made)))
  t.equal(new Set(tickets).size, 1)
  t.equal(store.list().length, 1)
})

t.test('a revocation ends what is known and what is new, until it is taken back', async (t) => {
  const { make, ask, refusal, signed, store } = await open(t)
  const made = make({ transfer_id: 'x' })
  const ticket = await ask(made)
  await signed.revoke('x')
  const revoked = { answer: DENIED, reason: 'it is revoked' }
  t.match(await refusal(made), revoked)
  t.match(await refusal(make({ transfer_id: 'x' })), revoked)
  await t.resolves(ask(make({ transfer_id: 'y' })))
  await store.remove(ticket.definition.id, 0)
  t.match(await refusal(made), revoked)
})

t.test('a revocation that comes while a token is verified is not missed', async (t) => {
  const { make, ask, signed, store } = await open(t)
  const asking = ask(make({ transfer_id: 'x' }))
  await signed.revoke('x')
  await t.rejects(asking, DENIED)
  t.strictSame(store.list(), [])
})

t.test('a ticket that was deleted and not revoked is made anew', async (t) => {
  const { make, ask, store } = await open(t)
  const made = make()
  const ticket = await ask(made)
  await store.remove(ticket.definition.id, 0)
  const again = await ask(made)
  t.not(again, ticket)
  t.equal(again.isCanceled, false)
})

t.test('a ticket that is being canceled is not replaced', async (t) => {
  const { make, ask, store } = await open(t)
  const made = make()
  const use = (await ask(made)).begin('operation')
  await store.remove((await ask(made)).definition.id, 0)
  await t.rejects(ask(made), { code: 'ERR_TICKET_CANCELED', statusCode: 403 })
  use.end()
})

t.test('a key that is removed or replaced takes its tokens with it', async (t) => {
  const { make, ask, refusal, signed, keys } = await open(t)
  const made = make()
  await ask(made)
  writeFileSync(join(keys, 'engine.pem'), pemOf(ed25519()))
  await signed.reload()
  t.match(await refusal(made), { answer: DENIED, reason: 'the key has been removed' })
  t.match(await refusal(made), { answer: DENIED, reason: /^the signature/ })
  unlinkSync(join(keys, 'engine.pem'))
  await signed.reload()
  t.match(await refusal(made), { answer: DENIED, reason: /^kid is no key/ })
})

t.test('rotation: both keys are good while both are there', async (t) => {
  const { make, ask, signed, keys } = await open(t)
  const next = ed25519()
  writeFileSync(join(keys, 'next.pem'), pemOf(next))
  await signed.reload()
  await t.resolves(ask(make()))
  await t.resolves(ask(make({}, { kid: 'next' }, next)))
  await t.rejects(ask(make({}, { kid: 'engine' }, next)), DENIED)
})

t.test('the number of signed tickets is bounded; those that are over make room', async (t) => {
  const { make, ask, clock, store } = await open(t, { max_tickets: 3 })
  const first = make()
  await ask(first)
  const held = (await ask(make({ exp: clock.seconds + 60 }))).begin('operation')
  await ask(make({ exp: clock.seconds + 60 }))
  const full = { code: 'ERR_SIGNED_TICKETS_BUSY', statusCode: 503 }
  await t.rejects(ask(make()), full)
  await t.resolves(ask(first), 'those there are go on')
  await t.resolves(store.add(definition(), 0), 'installed tickets are not counted')
  clock.seconds += 66
  await t.resolves(ask(make()), 'one was over')
  await t.rejects(ask(make()), full, 'the other is still used')
  held.end()
  await t.resolves(ask(make()))
})

t.test('what is remembered of tokens is bounded', async (t) => {
  const { make, ask, askAtOnce } = await open(t, { max_tickets: 2 })
  const made = Array.from({ length: 10 }, (_, index) =>
    make({ transfer_id: 'x', iat: 999_000 + index }),
  )
  for (const one of made) await ask(one)
  const known = made.map((one) => askAtOnce(one)).filter((found) => found instanceof Ticket)
  t.equal(known.length, 4)
})

t.test('an installed ticket of the id a signed one would have is left alone', async (t) => {
  const { make, ask, refusal, store } = await open(t)
  const made = make()
  const { id } = (await ask(made)).definition
  await store.add(definition({ id }), 0)
  t.match((await refusal(make({ transfer_id: 'other' }))).answer.code, undefined)
  t.match((await refusal(made)).answer, DENIED)
  t.equal(store.get(id).isSigned, false)
})

t.test('without signed tickets there are no tokens', async (t) => {
  const { make, store } = await open(t)
  const { logger } = recordingLogger()
  const gate = new TicketGate(store)
  const ask = (id: string, authorization?: string) => () =>
    gate.authorize({ id, logger, header: () => authorization }, 'read')
  t.throws(ask(make()), DENIED)
  t.throws(ask('x', `Bearer ${make({ transfer_id: 'x' })}`), DENIED)
})

t.test('the log never has a token', async (t) => {
  const { make, ask, refusal, lines } = await open(t)
  const good = make()
  await ask(good)
  const text = JSON.stringify(lines)
  await refusal(make({ aud: 'other' }))
  const both = text + JSON.stringify(lines)
  t.notMatch(both, good.slice(40, 80))
  t.notMatch(both, /eyJ[\w-]{20}/)
})

t.test('fuzz: no token that was tampered with is good', async (t) => {
  const { make, ask, askAtOnce, pair } = await open(t, { max_tickets: 10 })
  const good = make({ transfer_id: 'x' })
  const tampered = new Set<string>()
  for (let index = 0; index < good.length; index++) {
    const byte = good.charCodeAt(index)
    for (const flip of [1, 2, 4, 32]) {
      const other = String.fromCharCode(byte ^ flip)
      tampered.add(good.slice(0, index) + other + good.slice(index + 1))
    }
    tampered.add(good.slice(0, index) + good.slice(index + 1))
    tampered.add(`${good.slice(0, index)}A${good.slice(index)}`)
  }
  const [head = '', body = '', signature = ''] = good.split('.')
  for (let round = 0; round < 200; round++) {
    tampered.add(`${head}.${body}.${randomBytes(64).toString('base64url')}`)
    tampered.add(`${head}.${randomBytes(body.length).toString('base64url')}.${signature}`)
    tampered.add(randomBytes(1 + (round % 100)).toString('latin1'))
  }
  tampered.add(`${head}.${body}.${signatureOf(pair, body)}`)
  tampered.add(`${body}.${head}.${signature}`)
  tampered.delete(good)
  for (const text of tampered) {
    const found = await ask('x', 'read', `Bearer ${text}`).catch((error: unknown) => error)
    // Blanks around a token are the header's, not its own.
    if (text.trim() !== good) t.match(found, DENIED, JSON.stringify(text.slice(0, 60)))
    t.notOk(
      await Promise.resolve()
        .then(() => askAtOnce(text))
        .catch(() => undefined),
    )
  }
  await t.resolves(ask(good))
})
