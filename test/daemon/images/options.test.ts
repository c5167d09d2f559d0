import t from 'tap'
import { request } from '../../support/http.js'
import { serveImages } from './served.js'

t.test('what a ticket allows is told, with facts about the image', async (t) => {
  const { add, ask } = await serveImages(t)
  const reader = await ask(await add({ ops: ['read'], size: 2n ** 53n + 1n }), 'OPTIONS')
  t.equal(reader.headers['allow'], 'OPTIONS,GET')
  t.match(reader.text, /"size":9007199254740993[,}]/)
  t.match(reader.json, {
    features: ['checksum', 'extents'],
    max_readers: 8,
    max_writers: 8,
    block_size: 1,
  })
  const writer = await ask(await add({ sparse: true, dirty: true }), 'OPTIONS')
  t.equal(writer.headers['allow'], 'OPTIONS,GET,PUT,PATCH')
  t.strictSame(writer.json, {
    features: ['checksum', 'extents', 'flush', 'zero'],
    max_readers: 8,
    max_writers: 8,
    size: 1000,
    block_size: 1,
    sparse: true,
    dirty: true,
    transfer_id: 'transfer',
  })
})

t.test('the star needs no ticket and opens nothing', async (t) => {
  const { target, opened } = await serveImages(t, { localSocket: '\0name' })
  for (const star of ['*', '%2A']) {
    const reply = await request(target, 'OPTIONS', `/images/${star}`)
    t.equal(reply.status, 200)
    t.match(reply.text, /^\{"unix_socket":"\\u0000name",/)
    t.strictSame(reply.json, {
      unix_socket: '\0name',
      features: ['checksum', 'extents', 'flush', 'zero'],
    })
  }
  t.equal(opened(), 0)
})

t.test('asking is activity', async (t) => {
  const { add, ask } = await serveImages(t)
  const ticket = await add({ timeout: 100 })
  ticket.extend(50)
  await ask(ticket, 'OPTIONS')
  t.ok(ticket.secondsLeft > 99)
})

t.test('no id, and an id nobody knows', async (t) => {
  const { target } = await serveImages(t)
  for (const method of ['OPTIONS', 'GET', 'HEAD', 'PUT', 'PATCH']) {
    t.equal((await request(target, method, '/images/')).status, 400, method)
  }
  for (const method of ['OPTIONS', 'GET', 'HEAD']) {
    const reply = await request(target, method, '/images/unknown')
    t.equal(reply.status, 403, method)
    t.equal(reply.headers['connection'], 'close')
  }
})

t.test('a ticket that was removed while its image was open closes it', async (t) => {
  const { backend, store, add, ask, opened } = await serveImages(t)
  const ticket = await add()
  await ask(ticket, 'OPTIONS')
  t.equal(opened(), 1)
  await store.remove(ticket.definition.id, 1000)
  t.equal(backend.isClosed, true)
  t.equal((await ask(ticket, 'OPTIONS')).status, 403)
})
