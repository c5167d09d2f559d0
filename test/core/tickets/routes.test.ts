import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { ticketRoutes } from '../../../core/tickets/routes.js'
import { TicketStore } from '../../../core/tickets/store.js'
import { request, type Reply } from '../../support/http.js'
import { recordingLogger } from '../http/exchanges.js'
import { serve } from '../http/serving.js'

interface Control {
  readonly store: TicketStore
  readonly ask: (method: string, path: string, body?: unknown) => Promise<Reply>
}

async function control(t: Test, removeTimeout = 1): Promise<Control> {
  const store = new TicketStore({ expiredGrace: 60, logger: recordingLogger().logger })
  t.teardown(() => store.close())
  const normalizeUrl = (url: string): string => url
  const options = { store, removeTimeout, inactivityTimeout: 60, normalizeUrl }
  const { target } = await serve(t, ticketRoutes(options), { requireHost: false })
  return {
    store,
    ask: (method, path, body) => {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      return request(target, method, path, body === undefined ? {} : { body: text })
    },
  }
}

function fields(members: object = {}): Record<string, unknown> & { uuid: string } {
  const given = { size: 1000, ops: ['read'], timeout: 300, url: 'file:///disk' }
  return { uuid: randomUUID(), ...given, ...members }
}

t.test('a ticket is added, shown, extended and removed', async (t) => {
  const { store, ask } = await control(t)
  const ticket = fields()
  const path = `/tickets/${ticket.uuid}`
  const added = await ask('PUT', path, ticket)
  t.equal(added.status, 200)
  t.equal(added.headers['content-length'], '0')
  t.match((await ask('GET', path)).json, { ...ticket, active: false, transferred: 0 })
  t.equal((await ask('PATCH', path, { timeout: 1000 })).status, 200)
  t.ok(store.get(ticket.uuid).secondsLeft > 900)
  const removed = await ask('DELETE', path)
  t.equal(removed.status, 204)
  t.equal(removed.headers['content-length'], '0')
  t.equal((await ask('GET', path)).status, 404)
  t.equal((await ask('DELETE', path)).status, 204, 'again')
})

t.test('a ticket may be added again, unless it was removed for good', async (t) => {
  const { ask } = await control(t)
  const ticket = fields()
  const path = `/tickets/${ticket.uuid}`
  t.equal((await ask('PUT', path, ticket)).status, 200)
  t.equal((await ask('DELETE', path)).status, 204)
  t.equal((await ask('PUT', path, ticket)).status, 200)
  t.equal((await ask('DELETE', `${path}?final=y`)).status, 204)
  t.equal((await ask('PUT', path, ticket)).status, 410)
  t.equal((await ask('DELETE', `${path}?final=y`)).status, 204, 'again')
})

t.test('who removes a ticket for good is told of lost writes until it says so', async (t) => {
  const { store, ask } = await control(t)
  const ticket = fields()
  const path = `/tickets/${ticket.uuid}`
  t.equal((await ask('PUT', path, ticket)).status, 200)
  store.get(ticket.uuid).breakOff(new Error('the server is gone'))
  t.equal((await ask('DELETE', `${path}?final=y`)).status, 412)
  t.equal((await ask('DELETE', `${path}?final=y`)).status, 412, 'the answer may have got lost')
  t.match((await ask('GET', path)).json, { broken: true })
  t.equal((await ask('DELETE', `${path}?final=y&lost=y`)).status, 204)
  t.equal((await ask('GET', path)).status, 404)
})

t.test('a limit is shown while there is one, and changed alone or with the time', async (t) => {
  const { store, ask } = await control(t)
  const ticket = fields({ max_bytes_per_second: 1000 })
  const path = `/tickets/${ticket.uuid}`
  const limit = async (): Promise<unknown> => {
    const { max_bytes_per_second: shown } = (await ask('GET', path)).json as Record<string, unknown>
    return shown
  }
  await ask('PUT', path, ticket)
  t.equal(await limit(), 1000)
  const left = store.get(ticket.uuid).secondsLeft
  t.equal((await ask('PATCH', path, { max_bytes_per_second: 0 })).status, 200)
  t.equal(await limit(), undefined)
  t.ok(store.get(ticket.uuid).secondsLeft <= left, 'the time is the same')
  t.equal((await ask('PATCH', path, { max_bytes_per_second: 5, timeout: 1000 })).status, 200)
  t.equal(await limit(), 5)
  t.ok(store.get(ticket.uuid).secondsLeft > 900)
  const wrong = { max_bytes_per_second: -1, timeout: 5000 }
  t.equal((await ask('PATCH', path, wrong)).status, 400)
  t.equal(await limit(), 5)
  t.ok(store.get(ticket.uuid).secondsLeft < 4000, 'nothing was changed')
})

t.test('sizes are echoed with all digits', async (t) => {
  const { ask } = await control(t)
  for (const size of ['9007199254740993', '18446744073709551616']) {
    const { uuid } = fields()
    const members = `"ops":["read"],"timeout":300,"url":"file:///disk"`
    await ask('PUT', `/tickets/${uuid}`, `{"uuid":"${uuid}","size":${size},${members}}`)
    t.match((await ask('GET', `/tickets/${uuid}`)).text, new RegExp(`"size":${size},`))
  }
})

t.test('a path without an id, or with another than the body, is 400', async (t) => {
  const { store, ask } = await control(t)
  const ticket = fields()
  t.equal((await ask('PUT', '/tickets/', ticket)).status, 400)
  t.equal((await ask('PUT', '/tickets/other', ticket)).status, 400)
  t.equal((await ask('GET', '/tickets/')).status, 400)
  t.equal((await ask('PATCH', '/tickets/', { timeout: 1 })).status, 400)
  t.strictSame(store.list(), [])
})

t.test('an id may be anything that a path can say', async (t) => {
  const { ask } = await control(t)
  for (const uuid of ['a/b', 'ä ö', '*', '%', '=', 'x/extents']) {
    const path = `/tickets/${encodeURIComponent(uuid)}`
    t.equal((await ask('PUT', path, fields({ uuid }))).status, 200, uuid)
    t.match((await ask('GET', path)).json, { uuid })
  }
})

t.test('bodies are checked before tickets are looked for', async (t) => {
  const { ask } = await control(t)
  for (const body of ['', '{', '[]', '{}', '{"timeout": -1}', '{"timeout": true}']) {
    t.equal((await ask('PATCH', '/tickets/unknown', body)).status, 400, body)
    t.equal((await ask('PUT', '/tickets/unknown', body)).status, 400, body)
  }
  t.equal((await ask('PATCH', '/tickets/unknown', { timeout: 1 })).status, 404)
  t.equal((await ask('PUT', '/tickets/x', `"${'x'.repeat(65_536)}"`)).status, 413)
})

t.test('a busy ticket is 409 after the time to wait', async (t) => {
  const { store, ask } = await control(t, 0.02)
  const ticket = fields()
  const path = `/tickets/${ticket.uuid}`
  await ask('PUT', path, ticket)
  const use = store.get(ticket.uuid).begin('operation')
  const busy = await ask('DELETE', path)
  t.equal(busy.status, 409)
  t.notOk(busy.text.includes(ticket.uuid))
  t.equal((await ask('PUT', path, ticket)).status, 409)
  t.equal((await ask('DELETE', '/tickets/')).status, 409)
  t.match((await ask('GET', path)).json, { canceled: true, active: true })
  use.end()
  t.equal((await ask('DELETE', path)).status, 204)
})

t.test('without a time to wait the answer comes at once, and the ticket stays', async (t) => {
  const { store, ask } = await control(t, 0)
  const ticket = fields()
  const path = `/tickets/${ticket.uuid}`
  await ask('PUT', path, ticket)
  const use = store.get(ticket.uuid).begin('operation')
  t.equal((await ask('DELETE', path)).status, 204)
  t.match((await ask('GET', path)).json, { canceled: true, active: true })
  use.end()
  t.equal((await ask('DELETE', path)).status, 204)
  t.equal((await ask('GET', path)).status, 404)
})

t.test('a new ticket waits for its predecessor also where removing does not wait', async (t) => {
  const { store, ask } = await control(t, 0)
  const ticket = fields()
  const path = `/tickets/${ticket.uuid}`
  await ask('PUT', path, ticket)
  const use = store.get(ticket.uuid).begin('operation')
  use.signal.addEventListener('abort', () => use.end())
  t.equal((await ask('PUT', path, { ...ticket, size: 2 })).status, 200)
  t.match((await ask('GET', path)).json, { size: 2, canceled: false })
})

t.test('the list has no secrets in URLs of daemons', async (t) => {
  const { ask } = await control(t)
  const { uuid } = fields()
  const url = `https://host7:54322/images/${uuid}`
  await ask('PUT', `/tickets/${uuid}`, fields({ uuid, url }))
  const reply = await ask('GET', '/tickets')
  t.match(reply.json, [{ url: `https://host7:54322/images/${uuid.slice(0, 8)}…` }])
  t.notMatch(reply.text, uuid)
  t.match((await ask('GET', `/tickets/${uuid}`)).json, { url }, 'for who knows the id')
})

t.test('the list has no secrets', async (t) => {
  const { store, ask } = await control(t)
  const ids: string[] = []
  for (const timeout of [300, 0]) {
    const { uuid } = fields()
    ids.push(uuid)
    await ask('PUT', `/tickets/${uuid}`, fields({ uuid, timeout, transfer_id: `for ${uuid}` }))
  }
  store.get(ids[0]!).begin('operation').progress(0, 100)
  const reply = await ask('GET', '/tickets')
  t.equal(reply.status, 200)
  for (const id of ids) t.notOk(reply.text.includes(id))
  const [first, second] = reply.json as Record<string, unknown>[]
  t.match(first, { uuid: `${ids[0]!.slice(0, 8)}…`, moved: 100, active: true })
  t.ok(Number.isInteger(first?.['seconds_left']))
  t.equal(second?.['seconds_left'], 0)
})

t.test('removing all removes all', async (t) => {
  const { store, ask } = await control(t)
  for (let count = 0; count < 3; count++) {
    const ticket = fields()
    await ask('PUT', `/tickets/${ticket.uuid}`, ticket)
  }
  t.equal((await ask('DELETE', '/tickets/')).status, 204)
  t.strictSame(store.list(), [])
})

t.test('other methods are refused', async (t) => {
  const { ask } = await control(t)
  const reply = await ask('POST', '/tickets/x')
  t.equal(reply.status, 405)
  t.equal(reply.headers['allow'], 'GET, PUT, PATCH, DELETE')
  t.equal((await ask('OPTIONS', '/tickets/x')).status, 405)
  t.equal((await ask('PUT', '/tickets')).status, 405)
  t.equal((await ask('GET', '/images/x')).status, 404)
})
