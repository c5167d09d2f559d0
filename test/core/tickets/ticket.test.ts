import t from 'tap'
import type { TicketDefinition, TicketOp } from '../../../core/tickets/definition.js'
import { Ticket } from '../../../core/tickets/ticket.js'
import { sleep } from '../../support/wait.js'
import { definition, FakeClock } from './tickets.js'

const DENIED = { code: 'ERR_TICKET_DENIED', statusCode: 403 }
const EXPIRED = { code: 'ERR_TICKET_EXPIRED', statusCode: 403 }
const CANCELED = { code: 'ERR_TICKET_CANCELED', statusCode: 403 }

function make(fields: Partial<TicketDefinition> = {}): { ticket: Ticket; clock: FakeClock } {
  const clock = new FakeClock()
  return { ticket: new Ticket(definition(fields), clock.read), clock }
}

t.test('write implies read, and nothing implies write', async (t) => {
  const allowed = (ops: TicketOp[], op: TicketOp): boolean => {
    try {
      make({ ops }).ticket.authorize(op)
      return true
    } catch {
      return false
    }
  }
  t.ok(allowed(['read'], 'read'))
  t.notOk(allowed(['read'], 'write'))
  t.ok(allowed(['write'], 'read'))
  t.ok(allowed(['write'], 'write'))
  t.ok(allowed(['read', 'write'], 'write'))
  t.notOk(allowed([], 'read'))
  t.notOk(allowed([], 'write'))
  t.throws(() => make().ticket.authorize('write'), DENIED)
  t.equal(make().ticket.mayWrite(), false)
  t.equal(make({ ops: ['write'] }).ticket.mayWrite(), true)
})

t.test('a ticket expires when its time is over, not a moment before', async (t) => {
  const { ticket, clock } = make({ timeout: 2 })
  clock.seconds += 1.999
  ticket.authorize('read')
  t.equal(ticket.isExpired, false)
  clock.seconds += 0.001
  t.equal(ticket.isExpired, true)
  t.throws(() => ticket.authorize('read'), EXPIRED)
  clock.seconds += 100
  t.equal(ticket.secondsLeft, -100)
})

t.test('a ticket without time is expired from the start', async (t) => {
  t.throws(() => make({ timeout: 0 }).ticket.authorize('read'), EXPIRED)
})

t.test('an extension sets the life time, also to less, and revives', async (t) => {
  const { ticket, clock } = make({ timeout: 10 })
  ticket.extend(5)
  t.equal(ticket.secondsLeft, 5)
  ticket.extend(0)
  t.throws(() => ticket.authorize('read'), EXPIRED)
  clock.seconds += 50
  ticket.extend(20)
  ticket.authorize('read')
  t.equal(ticket.secondsLeft, 20)
  t.equal(ticket.info()['timeout'], 10, 'the timeout itself stays')
  t.equal(ticket.info()['idle_time'], 50, 'and nobody was active')
})

t.test('an extension is never shortened by an operation', async (t) => {
  const { ticket, clock } = make({ timeout: 10 })
  const use = ticket.begin('operation')
  ticket.extend(100)
  use.progress(0, 10)
  use.end()
  t.equal(ticket.secondsLeft, 100)
  ticket.touch()
  t.equal(ticket.secondsLeft, 100)
  clock.seconds += 95
  ticket.touch()
  t.equal(ticket.secondsLeft, 10)
})

t.test('progress renews, so an operation may last longer than the ticket', async (t) => {
  const { ticket, clock } = make({ timeout: 10 })
  const use = ticket.begin('operation')
  for (let step = 0; step < 10; step++) {
    clock.seconds += 9
    use.progress(step, 1)
    t.equal(ticket.secondsLeft, 10)
  }
  clock.seconds += 11
  t.equal(ticket.isExpired, true, 'without progress it expires')
  use.end()
  t.equal(ticket.secondsLeft, 10, 'and its end is a sign of life')
})

t.test('a hold keeps the ticket in use, and is no activity', async (t) => {
  const { ticket, clock } = make({ timeout: 10 })
  const hold = ticket.begin('hold')
  t.equal(ticket.isUnused, false)
  t.equal(ticket.isActive, false)
  clock.seconds += 4
  hold.end()
  t.equal(ticket.isUnused, true)
  t.equal(ticket.secondsLeft, 6)
  t.equal(ticket.info()['idle_time'], 4)
})

t.test('bytes count once as transferred and each time as moved', async (t) => {
  const { ticket } = make({ ops: ['write'] })
  const first = ticket.begin('operation')
  const second = ticket.begin('operation')
  first.progress(0, 100)
  second.progress(50, 100)
  t.equal(ticket.info()['transferred'], 150, 'while they run')
  first.end()
  second.end()
  t.equal(ticket.info()['transferred'], 150)
  t.equal(ticket.moved, 200)
})

t.test('what a hold does is not transferred', async (t) => {
  const { ticket } = make()
  const hold = ticket.begin('hold')
  hold.progress(0, 100)
  t.equal(ticket.info()['transferred'], 0)
  t.equal(ticket.moved, 0)
})

t.test('an inspection is an operation that moves nothing', async (t) => {
  const { ticket, clock } = make({ timeout: 10 })
  const use = ticket.begin('inspection')
  t.equal(ticket.isActive, true)
  clock.seconds += 9
  t.notOk('inspected' in ticket.info())
  use.progress(0, 100)
  t.equal(ticket.info()['inspected'], 100, 'and shows how far it is')
  t.equal(ticket.secondsLeft, 10, 'its progress is a sign of life')
  clock.seconds += 4
  use.end()
  t.equal(ticket.isActive, false)
  t.equal(ticket.info()['idle_time'], 0)
  t.equal(ticket.info()['transferred'], 0)
  t.equal(ticket.moved, 0)
})

t.test('a ticket for both ways does not tell what was transferred', async (t) => {
  t.notOk('transferred' in make({ ops: ['read', 'write'] }).ticket.info())
  t.equal(make({ ops: [] }).ticket.info()['transferred'], 0)
})

t.test('idle time is counted in whole seconds since the last activity', async (t) => {
  const { ticket, clock } = make()
  const idle = (): unknown => ticket.info()['idle_time']
  clock.seconds += 1.9
  t.equal(idle(), 1)
  const use = ticket.begin('operation')
  t.equal(idle(), 0)
  clock.seconds += 30
  t.equal(idle(), 0, 'never while active')
  use.end()
  t.equal(idle(), 0)
  clock.seconds += 5
  t.equal(idle(), 5)
  ticket.touch()
  t.equal(idle(), 0)
})

t.test('the last of several operations ends the activity', async (t) => {
  const { ticket } = make()
  const uses = [ticket.begin('operation'), ticket.begin('operation')]
  t.equal(ticket.isActive, true)
  uses[0]?.end()
  uses[0]?.end()
  uses[0]?.end()
  t.equal(ticket.isActive, true, 'ending twice counts once')
  uses[1]?.end()
  t.equal(ticket.isActive, false)
})

t.test('the info has exactly the keys of the contract, in integers', async (t) => {
  const { ticket, clock } = make({ id: 'ID', filename: 'a.raw', size: 2n ** 64n })
  clock.seconds += 0.5
  t.strictSame(ticket.info(), {
    active: false,
    canceled: false,
    connections: 0,
    expires: 1300,
    idle_time: 0,
    inactivity_timeout: 60,
    ops: ['read'],
    size: 2n ** 64n,
    sparse: false,
    dirty: false,
    timeout: 300,
    url: 'file:///disk',
    uuid: 'ID',
    transfer_id: 'transfer',
    filename: 'a.raw',
    transferred: 0,
  })
  t.notOk('filename' in make().ticket.info())
  t.notOk('transfer_id' in make({ transferId: '' }).ticket.info())
})

t.test(
  'cancellation ends what is held back, and the limit is shown while there is one',
  async (t) => {
    const { ticket } = make({ maxBytesPerSecond: 1 })
    t.equal(ticket.info()['max_bytes_per_second'], 1)
    const { signal } = new AbortController()
    await ticket.rate.take(1024, signal)
    const held = ticket.rate.take(1024, signal)
    ticket.cancel()
    await t.rejects(held, { code: 'ERR_TICKET_CANCELED' })
    ticket.rate.setRate(0)
    t.notOk('max_bytes_per_second' in ticket.info())
  },
)

t.test('the time of expiry fits in 31 bits', async (t) => {
  const { ticket } = make({ timeout: 2 ** 31 - 1 })
  t.equal(ticket.info()['expires'], 2 ** 31 - 1)
})

t.test('the limit is a number, whatever the size', async (t) => {
  t.equal(make({ size: 0 }).ticket.limit, 0)
  t.equal(make({ size: 1000 }).ticket.limit, 1000)
  t.equal(make({ size: 1000n }).ticket.limit, 1000)
  t.equal(make({ size: 2n ** 64n }).ticket.limit, Number.MAX_SAFE_INTEGER)
})

t.test('cancel stops what runs and refuses what comes', async (t) => {
  const { ticket, clock } = make()
  const use = ticket.begin('operation')
  const hold = ticket.begin('hold')
  t.equal(use.signal.aborted, false)
  ticket.cancel()
  ticket.cancel()
  t.match(use.signal.reason, CANCELED)
  t.match(hold.signal.reason, CANCELED)
  t.match(ticket.info(), { canceled: true, active: true })
  t.throws(() => ticket.authorize('read'), CANCELED)
  t.throws(() => ticket.begin('operation'), CANCELED)
  t.throws(() => ticket.begin('hold'), CANCELED)
  t.throws(() => ticket.attach({ close: async () => undefined }), CANCELED)
  clock.seconds += 7
  use.end()
  t.equal(ticket.info()['idle_time'], 7, 'ending because of it is no activity')
  t.equal(ticket.secondsLeft, 293)
})

t.test('canceled comes before expired, and an extension does not undo it', async (t) => {
  const { ticket } = make({ timeout: 0 })
  ticket.cancel()
  t.throws(() => ticket.authorize('read'), CANCELED)
  ticket.extend(100)
  t.throws(() => ticket.authorize('read'), CANCELED)
})

t.test('unused resolves at once when nothing runs', async (t) => {
  t.equal(await make().ticket.unused(0), true)
})

t.test('unused resolves for all who wait when the last use ends', async (t) => {
  const { ticket } = make()
  const uses = [ticket.begin('operation'), ticket.begin('hold')]
  const waits = Promise.all([ticket.unused(5000), ticket.unused(5000)])
  let isOver = false
  waits.then(() => (isOver = true))
  uses[0]?.end()
  await sleep(5)
  t.equal(isOver, false)
  uses[1]?.end()
  t.strictSame(await waits, [true, true])
})

t.test('unused gives up after its time', async (t) => {
  const { ticket } = make()
  const use = ticket.begin('operation')
  t.equal(await ticket.unused(5), false)
  t.equal(await ticket.unused(0), false)
  use.end()
  t.equal(await ticket.unused(0), true)
})

t.test('release closes what connections opened, and each takes itself off', async (t) => {
  const { ticket } = make()
  const closed: string[] = []
  const context = (name: string): { close(): Promise<void> } => {
    const made = {
      close: async () => {
        closed.push(name)
        ticket.detach(made)
      },
    }
    return made
  }
  ticket.attach(context('a'))
  ticket.attach(context('b'))
  t.equal(ticket.info()['connections'], 2)
  await ticket.release()
  t.strictSame(closed, ['a', 'b'])
  t.equal(ticket.connections, 0)
})

t.test('release fails with a context that does not close, and can be tried again', async (t) => {
  const { ticket } = make()
  let failures = 1
  const context = {
    close: async () => {
      if (failures-- > 0) throw new Error('device is gone')
      ticket.detach(context)
    },
  }
  ticket.attach(context)
  await t.rejects(ticket.release(), { message: 'device is gone' })
  t.equal(ticket.connections, 1)
  await ticket.release()
  t.equal(ticket.connections, 0)
})

t.test('after a lost write nothing is written any more, reading goes on', async (t) => {
  const { ticket } = make({ ops: ['write'] })
  const first = new Error('flush failed')
  ticket.loseWrites(first)
  ticket.loseWrites(new Error('another'))
  const broken = { code: 'ERR_TRANSFER_BROKEN', statusCode: 500, cause: first }
  t.throws(() => ticket.authorize('write'), broken)
  t.throws(() => ticket.authorize('write'), broken, 'for ever')
  ticket.authorize('read')
})

t.test('writes that storage took with it end reading, too', async (t) => {
  const { ticket } = make({ ops: ['write'] })
  const cause = new Error('server gone')
  ticket.breakOff(cause)
  const broken = { code: 'ERR_TRANSFER_BROKEN', statusCode: 500, cause }
  t.throws(() => ticket.authorize('write'), broken)
  t.throws(() => ticket.authorize('read'), broken)
})

t.test('a loss is shown, and told once to who removes the ticket', async (t) => {
  const { ticket } = make({ ops: ['write'] })
  ticket.tellLoss()
  t.notOk('broken' in ticket.info())
  ticket.loseWrites(new Error('flush failed'))
  t.match(ticket.info(), { broken: true })
  t.throws(() => ticket.tellLoss(), { code: 'ERR_TRANSFER_BROKEN' })
  ticket.tellLoss()
})

t.test('who says that it does not know of a loss is told each time', async (t) => {
  const { ticket } = make({ ops: ['write'] })
  ticket.tellLoss(false)
  ticket.loseWrites(new Error('flush failed'))
  for (const again of [1, 2, 3]) {
    t.throws(() => ticket.tellLoss(false), { code: 'ERR_UNFINISHED' }, String(again))
  }
  ticket.tellLoss(true)
})

t.test('the clock is monotonic seconds unless another is given', async (t) => {
  const ticket = new Ticket(definition({ timeout: 100 }))
  t.ok(ticket.secondsLeft > 99 && ticket.secondsLeft <= 100)
})

t.test('a signed ticket ends at its time: neither use nor extension puts it off', async (t) => {
  const clock = new FakeClock()
  const ticket = new Ticket(definition({ timeout: 100 }), clock.read, { isSigned: true })
  clock.seconds += 60
  ticket.touch()
  const use = ticket.begin('operation')
  use.progress(0, 10)
  use.end()
  t.equal(ticket.secondsLeft, 40)
  ticket.prolong(30)
  t.equal(ticket.secondsLeft, 40, 'never less')
  ticket.prolong(90)
  t.equal(ticket.secondsLeft, 90)
  clock.seconds += 90
  ticket.touch()
  t.throws(() => ticket.authorize('read'), { code: 'ERR_TICKET_EXPIRED' })
  t.equal(ticket.info()['signed'], true)
  t.notOk('signed' in new Ticket(definition()).info())
})
