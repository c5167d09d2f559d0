import t from 'tap'
import type { Extent } from '../../../daemon/backends/backend.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { serveImages } from './served.js'

const LINES = { headers: { accept: 'text/html, Application/X-NDJSON;q=0.5' } }

/** As many extents as asked for, of one byte each, in pages of a hundred. */
async function* many(count: number): AsyncGenerator<readonly Extent[]> {
  for (let start = 0; start < count; start += 100) {
    const page = Array.from({ length: Math.min(100, count - start) }, (_, index) => {
      return { start: start + index, length: 1, zero: index % 2 === 0, hole: false }
    })
    yield await Promise.resolve(page)
  }
}

t.test('extents cover the image', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  backend.data.fill(0, 100, 300)
  const reply = await ask(await add(), 'GET', '/extents')
  t.equal(reply.headers['content-type'], 'application/json')
  t.strictSame(reply.json, [
    { start: 0, length: 100, zero: false, hole: false },
    { start: 100, length: 200, zero: true, hole: false },
    { start: 300, length: 700, zero: false, hole: false },
  ])
  t.match(reply.headers, { 'content-length': String(reply.body.length) })
})

t.test('a window is clipped to what may be accessed', async (t) => {
  const { add, ask } = await serveImages(t)
  const ticket = await add({ size: 600 })
  const covered = async (query: string): Promise<unknown> => {
    const reply = await ask(ticket, 'GET', `/extents${query}`)
    if (reply.status !== 200) return reply.status
    return (reply.json as Extent[]).map(({ start, length }) => [start, length])
  }
  t.strictSame(await covered(''), [[0, 600]])
  t.strictSame(await covered('?start=100'), [[100, 500]])
  t.strictSame(await covered('?start=100&length=50'), [[100, 50]])
  t.strictSame(await covered('?length=50'), [[0, 50]])
  t.strictSame(await covered('?start=599&length=18446744073709551616'), [[599, 1]])
  t.equal(await covered('?start=600'), 416)
  t.equal(await covered('?start=18446744073709551616'), 416)
  for (const query of ['?start=', '?start=-1', '?start=1.5', '?length=x', '?start=0x1']) {
    t.equal(await covered(query), 400, query)
  }
})

t.test('an empty image has one empty extent', async (t) => {
  const { add, ask } = await serveImages(t, { size: 0 })
  const { json } = await ask(await add(), 'GET', '/extents')
  t.strictSame(json, [{ start: 0, length: 0, zero: false, hole: false }])
})

t.test('lines are sent to those who accept them', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  backend.data.fill(0, 100, 300)
  const reply = await ask(await add(), 'GET', '/extents', LINES)
  t.equal(reply.headers['content-type'], 'application/x-ndjson')
  const lines = reply.text.split('\n')
  t.equal(lines.pop(), '')
  t.equal(lines.length, 3)
  t.strictSame(JSON.parse(lines[1] ?? ''), { start: 100, length: 200, zero: true, hole: false })
})

t.test('a long list is streamed, and complete', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  backend.extents = () => many(20_000)
  const ticket = await add()
  const reply = await ask(ticket, 'GET', '/extents')
  t.equal(reply.headers['content-length'], undefined)
  t.equal((reply.json as Extent[]).length, 20_000)
  t.strictSame((reply.json as Extent[]).at(-1), {
    ...{ start: 19_999, length: 1, zero: false, hole: false },
  })
  const lines = await ask(ticket, 'GET', '/extents', LINES)
  t.equal(lines.text.split('\n').length, 20_001)
})

t.test('what is known is sent while the rest is looked for', async (t) => {
  const { backend, add, target } = await serveImages(t)
  const ticket = await add()
  for (const accept of ['application/json', 'application/x-ndjson']) {
    const seen = Promise.withResolvers<undefined>()
    backend.extents = async function* () {
      yield* many(3)
      // Whoever waited for all before it sends the first would wait for ever.
      await seen.promise
      yield* many(2)
    }
    const wire = await Wire.open(target)
    t.teardown(() => wire.destroy())
    const { id } = ticket.definition
    void wire.send(`GET /images/${id}/extents HTTP/1.1\r\nHost: x\r\nAccept: ${accept}\r\n\r\n`)
    await until('the third extent', () => wire.peek().includes('"start":2'))
    seen.resolve(undefined)
    await until('the end', () => wire.peek().endsWith('\r\n0\r\n\r\n'))
    t.equal(wire.peek().match(/"start"/g)?.length, 5)
  }
})

t.test('HEAD has no body, and ends the listing', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  let isEnded = false
  backend.extents = async function* () {
    try {
      yield* many(20_000)
    } finally {
      isEnded = true
    }
  }
  const reply = await ask(await add(), 'HEAD', '/extents')
  t.equal(reply.status, 200)
  t.equal(reply.body.length, 0)
  await until('the end', () => isEnded)
})

t.test('an error before the first piece is a status, one after it a cut', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add()
  let count = 5
  backend.extents = async function* () {
    yield* many(count)
    throw new Error('lost')
  }
  t.equal((await ask(ticket, 'GET', '/extents')).status, 500)
  count = 20_000
  await t.rejects(ask(ticket, 'GET', '/extents'))
  t.equal(await ticket.unused(1000), true)
})

t.test('a canceled ticket ends its listings', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add()
  backend.extents = async function* () {
    yield* many(15_000)
    ticket.cancel()
    yield* many(15_000)
  }
  await t.rejects(ask(ticket, 'GET', '/extents'))
  t.equal(await ticket.unused(1000), true)
})

t.test('dirty extents need a dirty ticket and storage that knows them', async (t) => {
  const { add, ask } = await serveImages(t)
  t.equal((await ask(await add(), 'GET', '/extents?context=dirty')).status, 404)
  t.equal((await ask(await add({ dirty: true }), 'GET', '/extents?context=dirty')).status, 404)
  t.equal((await ask(await add(), 'GET', '/extents?context=clean')).status, 400)
  t.equal((await ask(await add(), 'GET', '/extents?context=zero')).status, 200)
})
