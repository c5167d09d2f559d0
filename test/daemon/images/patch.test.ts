import t from 'tap'
import { serveImages } from './served.js'

t.test('zero clears its range, and flushes when told to', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add()
  const zero = (members: object): Promise<number> =>
    ask(ticket, 'PATCH', '', { body: JSON.stringify({ op: 'zero', ...members }) }).then(
      ({ status }) => status,
    )
  t.equal(await zero({ offset: 10, size: 20 }), 200)
  t.ok(backend.data.subarray(10, 30).equals(Buffer.alloc(20)))
  t.equal(backend.data[9], 10)
  t.equal(backend.data[30], 31)
  t.equal(backend.flushes, 0)
  t.equal(await zero({ size: 5, flush: true, future: 1 }), 200)
  t.equal(backend.data[4], 0)
  t.equal(backend.flushes, 1)
  t.equal(await zero({ size: 0 }), 200)
  t.equal(await zero({ offset: 1000, size: 0 }), 200)
  t.match(ticket.info(), { transferred: 25 })
})

t.test('a sparse ticket lets storage deallocate', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const seen: boolean[] = []
  backend.zero = async (_offset, _size, { mayPunchHole }) => {
    seen.push(mayPunchHole)
  }
  const body = '{"op": "zero", "size": 10}'
  await ask(await add({ sparse: true }), 'PATCH', '', { body })
  await ask(await add({ sparse: false }), 'PATCH', '', { body })
  t.strictSame(seen, [true, false])
})

t.test('flush flushes, and moves nothing', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add()
  t.equal((await ask(ticket, 'PATCH', '', { body: '{"op": "flush"}' })).status, 200)
  t.equal(backend.flushes, 1)
  t.match(ticket.info(), { transferred: 0 })
})

t.test('a range past the ticket is 416', async (t) => {
  const { backend, add, ask } = await serveImages(t, { canGrow: true })
  const ticket = await add()
  for (const [offset, size] of [
    ['0', '1001'],
    ['1000', '1'],
    ['18446744073709551616', '1'],
    ['0', '18446744073709551616'],
    ['9007199254740991', '9007199254740991'],
  ]) {
    const body = `{"op": "zero", "offset": ${offset}, "size": ${size}}`
    const reply = await ask(ticket, 'PATCH', '', { body })
    t.equal(reply.status, 416, body)
    t.equal(reply.headers['content-range'], 'bytes */1000')
  }
  t.equal(backend.data.length, 1000)
})

t.test('what is no operation is 400, before anybody looks for the ticket', async (t) => {
  const { add, ask, open, opened } = await serveImages(t)
  const ticket = await add()
  const bodies = [
    ...['', '{', '[]', 'null', '1', '"zero"', '{}', '{"op": "trim"}', '{"op": null}'],
    ...['{"op": "zero"}', '{"op": "zero", "size": -1}', '{"op": "zero", "size": 1.5}'],
    ...['{"op": "zero", "size": "1"}', '{"op": "zero", "size": true}'],
    ...['{"op": "zero", "size": -18446744073709551616}'],
    ...['{"op": "zero", "size": 1, "offset": -1}', '{"op": "zero", "size": 1, "offset": null}'],
    ...['{"op": "zero", "size": 1, "flush": "y"}', '{"op": "zero", "size": 1, "flush": 1}'],
  ]
  for (const body of bodies) {
    t.equal((await ask(ticket, 'PATCH', '', { body })).status, 400, body)
  }
  const unknown = 'PATCH /images/unknown HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n'
  t.equal((await (await open()).ask(`${unknown}\r\n{}`)).status, 400)
  t.equal((await (await open()).ask(`${unknown}expect: 100-continue\r\n\r\n`)).status, 403)
  t.equal(opened(), 0)
})
