import t from 'tap'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import {
  checkBeforeChange,
  checkMatch,
  isNotModified,
  mayUseRange,
  quoted,
} from '../../../daemon/images/conditions.js'
import { etagOf } from '../backends/images.js'
import { exchangeWith } from '../../core/http/exchanges.js'

const FAILED = { code: 'ERR_PRECONDITION_FAILED', statusCode: 412 }

type Fields = Readonly<Record<string, string>>

function matches(header: string, etag: string | undefined): boolean {
  try {
    checkMatch(exchangeWith({ 'if-match': header }).exchange, etag)
    return true
  } catch {
    return false
  }
}

const notModified = (header: string, etag: string | undefined): boolean =>
  isNotModified(exchangeWith({ 'if-none-match': header }).exchange, etag)

const usesRange = (header: string, etag: string | undefined): boolean =>
  mayUseRange(exchangeWith({ 'if-range': header }).exchange, etag)

t.test('without conditions everything goes on', async (t) => {
  const { exchange } = exchangeWith()
  checkMatch(exchange, undefined)
  checkMatch(exchange, 'a')
  t.equal(isNotModified(exchange, 'a'), false)
  t.equal(isNotModified(exchange, undefined), false)
  t.equal(mayUseRange(exchange, 'a'), true)
  t.equal(mayUseRange(exchange, undefined), true)
})

t.test('If-Match needs one of the validators, strongly', async (t) => {
  t.ok(matches('"a"', 'a'))
  t.ok(matches('"b", "a"', 'a'))
  t.ok(matches(' "a" ,"b"', 'a'))
  t.ok(matches('*', 'a'))
  t.ok(matches(' * ', undefined))
  t.notOk(matches('"b"', 'a'))
  t.notOk(matches('a', 'a'), 'not quoted')
  t.notOk(matches('W/"a"', 'a'), 'weak')
  t.notOk(matches('', 'a'))
  t.notOk(matches('"a"', undefined), 'nobody knows the state')
  t.throws(() => checkMatch(exchangeWith({ 'if-match': '"b"' }).exchange, 'a'), FAILED)
})

t.test('If-None-Match compares weakly', async (t) => {
  t.ok(notModified('"a"', 'a'))
  t.ok(notModified('"b", "a"', 'a'))
  t.ok(notModified('W/"a"', 'a'))
  t.ok(notModified('*', 'a'))
  t.notOk(notModified('"b"', 'a'))
  t.notOk(notModified('a', 'a'))
  t.notOk(notModified('"a"', undefined))
})

t.test('If-Range needs exactly the validator, strongly', async (t) => {
  t.ok(usesRange('"a"', 'a'))
  t.ok(usesRange(' "a" ', 'a'))
  t.notOk(usesRange('"b"', 'a'))
  t.notOk(usesRange('W/"a"', 'a'))
  t.notOk(usesRange('Wed, 21 Oct 2026 07:28:00 GMT', 'a'), 'no image has a date')
  t.notOk(usesRange('"a"', undefined))
})

t.test('a change needs all conditions', async (t) => {
  const backend = new MemoryBackend(Buffer.from('content'))
  const tag = quoted(String(await etagOf(backend)))
  const attempt = (fields: Fields): Promise<void> =>
    checkBeforeChange(exchangeWith(fields, { method: 'PUT' }).exchange, backend)
  await attempt({})
  await attempt({ 'if-match': tag })
  await attempt({ 'if-match': '*' })
  await attempt({ 'if-none-match': '"other"' })
  await attempt({ 'if-match': tag, 'if-none-match': '"other"' })
  await t.rejects(attempt({ 'if-match': '"other"' }), FAILED)
  await t.rejects(attempt({ 'if-none-match': tag }), FAILED)
  await t.rejects(attempt({ 'if-none-match': '*' }), FAILED)
  await t.rejects(attempt({ 'if-match': tag, 'if-none-match': tag }), FAILED)
})

t.test('while the state is unknown, a change under a condition is refused', async (t) => {
  const backend = new MemoryBackend(Buffer.alloc(0))
  backend.facts = async () => ({ size: 0, etag: undefined })
  const attempt = (fields: Fields): Promise<void> =>
    checkBeforeChange(exchangeWith(fields, { method: 'PATCH' }).exchange, backend)
  await attempt({})
  await t.rejects(attempt({ 'if-match': '"a"' }), FAILED)
  await t.rejects(attempt({ 'if-none-match': ' * ' }), FAILED)
})

t.test('the state is not asked for when nobody wants to know', async (t) => {
  const backend = new MemoryBackend(Buffer.alloc(0))
  backend.facts = async () => {
    throw new Error('asked')
  }
  await checkBeforeChange(exchangeWith({}, { method: 'PUT' }).exchange, backend)
  await t.rejects(checkBeforeChange(exchangeWith({ 'if-match': '*' }).exchange, backend), {
    message: 'asked',
  })
})
