import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { MAX_REVOCATIONS, Revocations } from '../../../../core/tickets/signed/revocations.js'
import { recordingLogger } from '../../http/exchanges.js'
import { FakeClock } from '../tickets.js'
import { keyDirectory } from './tokens.js'

const { logger } = recordingLogger()

async function open(file: string | undefined, clock = new FakeClock(), keptFor = 100) {
  return { clock, revocations: await Revocations.open({ file, keptFor, logger, now: clock.read }) }
}

function place(t: Test): string {
  return join(keyDirectory(t), 'revocations.json')
}

t.test('a revocation holds until every token there was is over', async (t) => {
  const { clock, revocations } = await open(undefined)
  t.notOk(revocations.has('a'))
  await revocations.add('a')
  t.ok(revocations.has('a'))
  t.notOk(revocations.has('A'))
  clock.seconds += 100
  t.ok(revocations.has('a'))
  t.equal(revocations.list().length, 1)
  clock.seconds += 0.5
  t.notOk(revocations.has('a'))
  t.strictSame(revocations.list(), [])
})

t.test('until decides when it is given, and a later one replaces it', async (t) => {
  const { clock, revocations } = await open(undefined)
  await revocations.add('a', clock.seconds + 1000)
  clock.seconds += 500
  t.ok(revocations.has('a'))
  await revocations.add('a')
  clock.seconds += 101
  t.notOk(revocations.has('a'))
})

t.test('it can be taken back', async (t) => {
  const { revocations } = await open(undefined)
  await revocations.add('a')
  await revocations.remove('a')
  t.notOk(revocations.has('a'))
  await t.resolves(revocations.remove('a'))
})

t.test('a file keeps it over a restart, and is private', async (t) => {
  const file = place(t)
  const { clock, revocations } = await open(file)
  await revocations.add('a')
  await revocations.add('b', clock.seconds + 1000)
  await revocations.add('c')
  await revocations.remove('c')
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.notOk(existsSync(`${file}.new`))
  const again = await open(file, clock)
  t.strictSame(again.revocations.list(), revocations.list())
  clock.seconds += 101
  t.notOk(again.revocations.has('a'))
  t.ok(again.revocations.has('b'))
  await again.revocations.proveAccess()
  t.notMatch(readFileSync(file, 'utf8'), /"a"/, 'what is over is not written again')
})

t.test('a longer max_lifetime reaches those that were made before', async (t) => {
  const file = place(t)
  const { clock, revocations } = await open(file)
  await revocations.add('a')
  clock.seconds += 150
  t.ok((await open(file, clock, 200)).revocations.has('a'))
})

t.test('many at the same time are all in the file', async (t) => {
  const file = place(t)
  const { clock, revocations } = await open(file)
  const ids = Array.from({ length: 200 }, (_, index) => `transfer-${index}`)
  await Promise.all(ids.map((id) => revocations.add(id)))
  const again = await open(file, clock)
  t.ok(ids.every((id) => again.revocations.has(id)))
})

t.test('a file that makes no sense is no start', async (t) => {
  const file = place(t)
  const texts = [
    '',
    '{',
    '[]',
    '{"revocations": 7}',
    '{"revocations": [7]}',
    '{"revocations": [{"transfer_id": "a"}]}',
    '{"revocations": [{"transfer_id": "a/b", "revoked": 1}]}',
    '{"revocations": [{"transfer_id": "a", "revoked": "1"}]}',
    '{"revocations": [{"transfer_id": "a", "revoked": 1, "until": "x"}]}',
  ]
  for (const text of texts) {
    writeFileSync(file, text)
    await t.rejects(open(file), { message: /^cannot use the revocations in / }, text)
  }
})

t.test('what cannot be saved holds all the same, and the next change saves it', async (t) => {
  const dir = join(keyDirectory(t), 'state')
  const file = join(dir, 'revocations.json')
  const { clock, revocations } = await open(file)
  const failed = { code: 'ERR_REVOCATION_NOT_SAVED', statusCode: 500 }
  await t.rejects(revocations.proveAccess(), { message: /^cannot write the revocations/ })
  await t.rejects(revocations.add('a'), failed, 'there is no directory')
  t.ok(revocations.has('a'))
  mkdirSync(dir)
  await revocations.add('b')
  const again = await open(file, clock)
  t.ok(again.revocations.has('a') && again.revocations.has('b'))
  rmSync(dir, { recursive: true })
  await t.rejects(revocations.remove('a'), failed)
  t.notOk(revocations.has('a'))
})

t.test('a file left by a crash in the middle of writing is written over', async (t) => {
  const file = place(t)
  writeFileSync(`${file}.new`, 'half')
  chmodSync(`${file}.new`, 0o600)
  const { clock, revocations } = await open(file)
  await revocations.add('a')
  t.ok((await open(file, clock)).revocations.has('a'))
})

t.test('their number is bounded, and none that counts is forgotten', async (t) => {
  const { clock, revocations } = await open(undefined)
  for (let index = 0; index < MAX_REVOCATIONS; index++) await revocations.add(`t${index}`)
  await t.rejects(revocations.add('more'), { code: 'ERR_TOO_MANY_REVOCATIONS', statusCode: 503 })
  await t.resolves(revocations.add('t0'), 'one that is there already')
  t.ok(revocations.has(`t${MAX_REVOCATIONS - 1}`))
  clock.seconds += 101
  await t.resolves(revocations.add('more'), 'when the others are over')
  t.equal(revocations.list().length, 1)
})
