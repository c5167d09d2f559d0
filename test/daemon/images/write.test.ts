import t from 'tap'
import { SystemError } from '../../../native/index.js'
import { until } from '../../support/wait.js'
import { serveImages } from './served.js'

const range = (offset: number, size: number): { headers: Record<string, string> } => ({
  headers: { 'content-range': `bytes ${offset}-${offset + size - 1}/*` },
})

t.test('a body is written at its offset, and flushed unless told not to', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add()
  const reply = await ask(ticket, 'PUT', '', { body: 'hello', ...range(10, 5) })
  t.equal(reply.status, 200)
  t.equal(reply.headers['content-length'], '0')
  t.equal(backend.data.toString('latin1', 10, 15), 'hello')
  t.equal(backend.flushes, 1)
  await ask(ticket, 'PUT', '?flush=n', { body: 'HELLO' })
  t.equal(backend.data.toString('latin1', 0, 5), 'HELLO')
  t.equal(backend.flushes, 1)
  t.match(ticket.info(), { transferred: 10 })
})

t.test('the length of the body wins over the range', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  await ask(await add(), 'PUT', '', { body: 'hello', ...range(0, 100) })
  t.equal(backend.data.toString('latin1', 0, 5), 'hello')
  t.equal(backend.data[5], 6)
})

t.test('past the ticket nothing is written', async (t) => {
  const { backend, add, ask } = await serveImages(t, { canGrow: true })
  const before = Buffer.from(backend.data)
  const ticket = await add({ size: 1004 })
  const reply = await ask(ticket, 'PUT', '', { body: 'hello', ...range(1000, 5) })
  t.equal(reply.status, 416)
  t.equal(reply.headers['content-range'], 'bytes */1004')
  t.ok(backend.data.equals(before))
  const grown = await ask(ticket, 'PUT', '', { body: 'hell', ...range(1000, 4) })
  t.equal(grown.status, 200)
  t.equal(backend.data.length, 1004)
})

t.test('a chunked body ends at the ticket’s end', async (t) => {
  const { backend, open, add } = await serveImages(t, { canGrow: true })
  const ticket = await add({ size: 1004 })
  const head = `PUT /images/${ticket.definition.id} HTTP/1.1\r\nhost: h\r\n`
  const fields = 'content-range: bytes 1000-*/*\r\ntransfer-encoding: chunked\r\n\r\n'
  const good = await (await open()).ask(`${head}${fields}4\r\nabcd\r\n0\r\n\r\n`)
  t.equal(good.status, 200)
  t.equal(backend.data.toString('latin1', 1000), 'abcd')
  const long = await (await open()).ask(`${head}${fields}5\r\nABCDE\r\n0\r\n\r\n`)
  t.equal(long.status, 416)
  t.equal(backend.data.length, 1004)
})

t.test('storage that cannot grow is not written in part', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const before = Buffer.from(backend.data)
  const ticket = await add({ size: 2000 })
  const reply = await ask(ticket, 'PUT', '', { body: 'hello', ...range(998, 5) })
  t.ok(reply.status >= 400, `${reply.status}`)
  t.ok(backend.data.equals(before))
})

t.test('who may only read may not write', async (t) => {
  const { backend, add, ask, opened } = await serveImages(t)
  const before = Buffer.from(backend.data)
  const reply = await ask(await add({ ops: ['read'] }), 'PUT', '', { body: 'hello' })
  t.equal(reply.status, 403)
  t.equal(reply.headers['connection'], 'close')
  t.ok(backend.data.equals(before))
  t.equal(opened(), 0)
})

t.test('after a flush that failed nothing is written any more', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add()
  backend.flush = () => Promise.reject(new SystemError('EIO', 5, 'fdatasync', 'input/output error'))
  t.equal((await ask(ticket, 'PUT', '', { body: 'hello' })).status, 500)
  backend.flush = () => Promise.resolve()
  const again = await ask(ticket, 'PUT', '', { body: 'HELLO' })
  t.equal(again.status, 500)
  t.match(again.text, /start over/)
  t.equal(backend.data.toString('latin1', 0, 5), 'hello')
  t.equal((await ask(ticket, 'PATCH', '', { body: '{"op": "flush"}' })).status, 500)
  t.equal((await ask(ticket, 'GET')).status, 200)
})

t.test('what came of a body is written, also when its client leaves', async (t) => {
  const { backend, open, add } = await serveImages(t)
  const ticket = await add()
  const wire = await open()
  const head = `PUT /images/${ticket.definition.id} HTTP/1.1\r\nhost: h\r\n`
  await wire.send(`${head}content-length: 100\r\n\r\nhello`)
  wire.destroy()
  await until('the end', () => ticket.moved === 5)
  t.equal(await ticket.unused(1000), true)
  t.equal(backend.data.toString('latin1', 0, 5), 'hello')
  t.equal(backend.data[5], 6)
  t.equal(backend.flushes, 0)
})

t.test('an empty body writes nothing and flushes', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const before = Buffer.from(backend.data)
  t.equal((await ask(await add(), 'PUT', '', { body: '' })).status, 200)
  t.ok(backend.data.equals(before))
  t.equal(backend.flushes, 1)
})
