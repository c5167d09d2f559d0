import { randomUUID } from 'node:crypto'
import { mock } from 'node:test'
import t, { type Test } from 'tap'
import type { TicketDefinition } from '../../../core/tickets/definition.js'
import { TicketStore } from '../../../core/tickets/store.js'
import { until } from '../../support/wait.js'
import { recordingLogger, type LogLine } from '../http/exchanges.js'
import { definition, FakeClock } from './tickets.js'

const UNKNOWN = { code: 'ERR_NO_SUCH_TICKET', statusCode: 404 }
const DENIED = { code: 'ERR_TICKET_DENIED', statusCode: 403 }
const BUSY = { code: 'ERR_TICKET_BUSY', statusCode: 409 }
const CANCELED = { code: 'ERR_TICKET_CANCELED' }

interface Fixture {
  readonly store: TicketStore
  readonly clock: FakeClock
  readonly lines: LogLine[]
  readonly text: () => string
  /** Adds a ticket. */
  readonly add: (fields?: Partial<TicketDefinition>, timeoutMs?: number) => Promise<string>
}

function make(t: Test, expiredGrace = 60): Fixture {
  const clock = new FakeClock()
  const { logger, lines, text } = recordingLogger()
  const store = new TicketStore({ expiredGrace, logger, clock: clock.read })
  t.teardown(() => store.close())
  const add = async (fields: Partial<TicketDefinition> = {}, timeoutMs = 1000): Promise<string> => {
    const made = definition(fields)
    await store.add(made, timeoutMs)
    return made.id
  }
  return { store, clock, lines, text, add }
}

t.test(
  'writes that are lost while the image is closed are told, then the ticket goes',
  async (t) => {
    const { store, add } = make(t)
    const id = await add({ ops: ['write'] })
    const ticket = store.get(id)
    ticket.attach({
      close: async () => ticket.breakOff(new Error('the server is gone')),
    })
    await t.rejects(store.remove(id, 1000), { code: 'ERR_TRANSFER_BROKEN' })
    t.match(ticket.info(), { broken: true, canceled: true })
    await store.remove(id, 1000)
    t.throws(() => store.get(id), UNKNOWN)
  },
)

t.test('a ticket is found by its id', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  t.equal(store.get(id).definition.id, id)
  t.equal(store.authorize(id, 'read'), store.get(id))
  t.strictSame(store.list(), [store.get(id)])
})

t.test('an unknown ticket is 404 for the engine and 403 for everybody else', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  for (const other of ['', 'x', id.slice(0, -1), `${id} `, id.toUpperCase() + 'X', '__proto__']) {
    t.throws(() => store.get(other), UNKNOWN)
    t.throws(() => store.change(other, { timeout: 1, maxBytesPerSecond: undefined }), UNKNOWN)
    t.throws(() => store.authorize(other, 'read'), DENIED)
  }
})

t.test('authorization goes on in the ticket', async (t) => {
  const { store, clock, add } = make(t)
  const id = await add()
  t.throws(() => store.authorize(id, 'write'), DENIED)
  clock.seconds += 301
  t.throws(() => store.authorize(id, 'read'), { code: 'ERR_TICKET_EXPIRED' })
  store.change(id, { timeout: 10, maxBytesPerSecond: undefined })
  t.equal(store.authorize(id, 'read').secondsLeft, 10)
})

t.test('no id is in the log, not even as part of a transfer id', async (t) => {
  const { store, clock, lines, text, add } = make(t, 0)
  const ids = [randomUUID(), randomUUID(), 'short', 'xyz', randomUUID()]
  for (const id of ids) {
    await add({ id, transferId: `(ticket/${id})` })
    store.change(id, { timeout: 5, maxBytesPerSecond: undefined })
    t.throws(() => store.authorize(id, 'write'))
  }
  await add({ id: ids[0]! })
  const use = store.get(ids[1]!).begin('operation')
  await t.rejects(store.remove(ids[1]!, 1), BUSY)
  use.end()
  await store.remove(ids[1]!, 1)
  clock.seconds += 1000
  await store.removeAll(100)
  for (const id of ids) t.notOk(text().includes(id), id)
  t.match(
    lines.map(({ msg }) => msg),
    new Set(['ticket added', 'ticket extended', 'ticket is still in use', 'ticket removed']),
  )
  const [first] = lines
  t.match(first, {
    ticket: `${ids[0]!.slice(0, 8)}…`,
    transfer: `(ticket/${ids[0]!.slice(0, 8)}…)`,
  })
})

t.test('error texts do not tell the id either', async (t) => {
  const { store } = make(t)
  const id = randomUUID()
  for (const attempt of [() => store.get(id), () => store.authorize(id, 'read')]) {
    try {
      attempt()
      t.fail('must throw')
    } catch (error) {
      t.notOk(String(error).includes(id.slice(0, 9)))
    }
  }
})

t.test('a new ticket of the same id replaces and cancels the old one', async (t) => {
  const { store, add } = make(t)
  const id = await add({ size: 1 })
  const old = store.get(id)
  let isClosed = false
  const context = {
    close: async () => {
      isClosed = true
      old.detach(context)
    },
  }
  old.attach(context)
  await add({ id, size: 2 })
  t.equal(old.isCanceled, true)
  t.equal(isClosed, true)
  t.equal(store.get(id).definition.size, 2)
  t.equal(store.get(id).isCanceled, false)
  t.equal(store.list().length, 1)
})

t.test(
  'replacing waits for operations of the old one, and refuses when they do not end',
  async (t) => {
    const { store, add } = make(t)
    const id = await add({ size: 1 })
    const old = store.get(id)
    const use = old.begin('operation')
    await t.rejects(add({ id, size: 2 }, 5), BUSY)
    t.equal(store.get(id), old, 'the old one stays')
    t.equal(old.isCanceled, true)
    const replaced = add({ id, size: 3 }, 5000)
    use.end()
    await replaced
    t.equal(store.get(id).definition.size, 3)
  },
)

t.test('of two that replace at the same time the last one stays, and both are good', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const use = store.get(id).begin('operation')
  const both = [add({ id, size: 1 }), add({ id, size: 2 })]
  use.end()
  await Promise.all(both)
  t.equal(store.list().length, 1)
  t.equal(store.get(id).definition.size, 2)
  t.equal(store.get(id).isCanceled, false)
})

t.test('removing closes everything first, then forgets', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const ticket = store.get(id)
  const closing = Promise.withResolvers<undefined>()
  ticket.attach({ close: () => closing.promise })
  const removed = store.remove(id, 1000)
  await new Promise(setImmediate)
  t.equal(store.get(id), ticket, 'listed until it is closed')
  t.throws(() => store.authorize(id, 'read'), CANCELED)
  closing.resolve(undefined)
  await removed
  t.throws(() => store.get(id), UNKNOWN)
})

t.test('removing what is not there is done', async (t) => {
  const { store, lines } = make(t)
  await store.remove('unknown', 1000)
  await store.remove('', 0)
  t.strictSame(lines, [])
})

t.test('removing a busy ticket is 409 after the time, and may be repeated', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const use = store.get(id).begin('operation')
  await t.rejects(store.remove(id, 5), BUSY)
  t.match(store.get(id).info(), { canceled: true, active: true })
  const again = store.remove(id, 5000)
  use.end()
  await again
  t.throws(() => store.get(id), UNKNOWN)
})

t.test('without a time to wait a busy ticket is canceled and stays listed', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const use = store.get(id).begin('operation')
  await store.remove(id, 0)
  t.equal(use.signal.aborted, true)
  t.match(store.get(id).info(), { canceled: true, active: true })
  await t.rejects(store.remove(id, 0, false), BUSY, 'who wants all of the image is told')
  use.end()
  t.match(store.get(id).info(), { canceled: true, active: false })
  await store.remove(id, 0)
  t.throws(() => store.get(id), UNKNOWN)
})

t.test('a ticket whose image does not close stays, to be removed again', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const ticket = store.get(id)
  let failures = 1
  const context = {
    close: async () => {
      if (failures-- > 0) throw new Error('device is gone')
      ticket.detach(context)
    },
  }
  ticket.attach(context)
  await t.rejects(store.remove(id, 1000), { message: 'device is gone' })
  t.equal(store.get(id), ticket)
  await store.remove(id, 1000)
  t.throws(() => store.get(id), UNKNOWN)
})

t.test('an id that was removed for good is not added again, for a day', async (t) => {
  const { store, clock, add } = make(t)
  const [id, other] = [await add(), await add()]
  store.forbid(id)
  await store.remove(id, 1000)
  store.forbid('never added')
  for (const gone of [id, 'never added']) {
    await t.rejects(add({ id: gone }), { code: 'ERR_TICKET_REMOVED', statusCode: 410 })
  }
  await store.remove(other, 1000)
  await add({ id: other })
  clock.seconds += 23 * 3600
  await t.rejects(add({ id }), { code: 'ERR_TICKET_REMOVED' })
})

t.test('who waits for a predecessor that is removed for good meanwhile is refused', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const use = store.get(id).begin('operation')
  const added = add({ id })
  store.forbid(id)
  const removed = store.remove(id, 1000)
  use.end()
  await t.rejects(added, { code: 'ERR_TICKET_REMOVED' })
  await removed
  t.throws(() => store.get(id), UNKNOWN)
})

t.test('two who remove the same ticket both succeed', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const use = store.get(id).begin('operation')
  const both = [store.remove(id, 1000), store.remove(id, 1000)]
  use.end()
  await Promise.all(both)
  t.strictSame(store.list(), [])
})

t.test('who removes late does not remove the successor', async (t) => {
  const { store, add } = make(t)
  const id = await add()
  const old = store.get(id)
  const closing = Promise.withResolvers<undefined>()
  old.attach({ close: () => closing.promise })
  const removed = store.remove(id, 1000)
  const replaced = add({ id, size: 2 })
  closing.resolve(undefined)
  await Promise.all([removed, replaced])
  t.equal(store.get(id).definition.size, 2)
})

t.test('removing all cancels each, and tells of the first that is busy', async (t) => {
  const { store, add } = make(t)
  const ids = [await add(), await add(), await add()]
  const use = store.get(ids[1]!).begin('operation')
  await t.rejects(store.removeAll(5), BUSY)
  t.strictSame(
    store.list().map((ticket) => ticket.definition.id),
    [ids[1]],
  )
  t.equal(use.signal.aborted, true)
  use.end()
  await store.removeAll(5)
  t.strictSame(store.list(), [])
  await store.removeAll(0)
})

t.test('expired tickets are forgotten after the grace time', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const { store, clock, text, add } = make(t, 60)
  const unused = await add()
  const busy = await add()
  const stuck = await add()
  const alive = await add({ timeout: 10_000 })
  const use = store.get(busy).begin('operation')
  const ticket = store.get(stuck)
  let failures = 1
  const context = {
    close: async () => {
      if (failures-- > 0) throw new Error('device is gone')
      ticket.detach(context)
    },
  }
  ticket.attach(context)
  const listed = (): string[] => store.list().map(({ definition: { id } }) => id)

  clock.seconds += 359.999
  mock.timers.tick(10_000)
  t.equal(listed().length, 4, 'not within the grace time')
  clock.seconds += 0.001
  mock.timers.tick(10_000)
  await until('the first is forgotten', () => listed().length === 3)
  t.strictSame(listed(), [busy, stuck, alive])
  t.equal(failures, 0)
  mock.timers.tick(10_000)
  await until('closing is tried again', () => listed().length === 2)
  use.end() // which renews
  mock.timers.tick(10_000)
  await new Promise(setImmediate)
  t.strictSame(listed(), [busy, alive])
  t.match(text(), /expired ticket forgotten/)
  for (const id of [unused, busy, stuck]) t.notOk(text().includes(id))
})
