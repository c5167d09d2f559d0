/** Small rules of the lifecycle: sizes of tickets, inactivity. */
import t from 'tap'
import { isInactive } from '../../../transfers/lifecycle/inactivity.js'
import { Watched } from '../../../transfers/lifecycle/watched.js'
import { ManualClock } from '../manual-clock.js'
import { ticketSize } from '../../../transfers/lifecycle/ticket-size.js'
import { someTransfer, UNTOUCHED } from '../records.js'

const MiB = 2 ** 20

const WEEK_MS = 7 * 24 * 3600 * 1000

t.test('a ticket permits what the volume can take, or has', async (t) => {
  const size = (
    direction: 'upload' | 'download',
    backend: 'file' | 'nbd',
    format: 'raw' | 'cow',
    provisionedSize = 10 * MiB,
  ) => ticketSize({ direction, backend }, { format, provisionedSize }, 12345)
  for (const direction of ['upload', 'download'] as const) {
    t.equal(size(direction, 'nbd', 'cow'), 10 * MiB, 'guest data')
    t.equal(size(direction, 'nbd', 'raw'), 10 * MiB)
    t.equal(size(direction, 'file', 'raw'), 10 * MiB)
  }
  t.equal(size('download', 'file', 'cow'), 12345, 'the file')
  t.equal(size('upload', 'file', 'cow'), 12 * MiB, 'a tenth and one MiB more')
  t.equal(size('upload', 'file', 'cow', 1), 2 + MiB, 'rounded up')
  const told = { format: 'cow', provisionedSize: MiB, initialSize: 5 * MiB } as const
  t.equal(ticketSize({ direction: 'upload', backend: 'file' }, told, 0), 5 * MiB)
  const tenTiB = 10 * 2 ** 40
  t.equal(size('upload', 'file', 'cow', tenTiB), 11 * 2 ** 40 + MiB, 'exact')
})

t.test('a transfer is inactive when the ticket was idle for longer than the timeout', async (t) => {
  const transfer = someTransfer({ inactivityTimeout: 60 })
  const state = { ...UNTOUCHED, idleMs: 60_000 }
  const quiet = { sinceExtended: 1e9, sinceUpdated: 1000 }
  t.equal(isInactive(transfer, state, quiet), false, 'just the timeout')
  t.equal(isInactive(transfer, { ...state, idleMs: 61_000 }, quiet), true)
  t.equal(isInactive(transfer, { ...state, isActive: true, idleMs: 61_000 }, quiet), false)
  const patient = { ...transfer, inactivityTimeout: 0 }
  t.equal(isInactive(patient, { ...state, idleMs: 1e9 }, quiet), false)
  const extended = { ...quiet, sinceExtended: 5000 }
  t.equal(isInactive(transfer, { ...state, idleMs: 1e9 }, extended), false, 'a sign of life')
  t.equal(isInactive(transfer, { ...state, idleMs: undefined }, quiet), false, 'its own memory')
  const silent = { ...quiet, sinceUpdated: 61_000 }
  t.equal(isInactive(transfer, { ...state, idleMs: undefined }, silent), true)
})

t.test('a stored moment gets older, whatever becomes of the wall clock', async (t) => {
  const clock = new ManualClock()
  const watched = new Watched()
  const moment = clock.now() - 5000
  t.equal(watched.age(moment, clock), 5000)
  clock.set(-WEEK_MS)
  clock.advance(1000)
  t.equal(watched.age(moment, clock), 6000)
  clock.set(2 * WEEK_MS)
  t.equal(watched.age(moment, clock), 6000)
  t.equal(watched.age(clock.now(), clock), 0, 'another one')
  t.equal(watched.age(clock.now() + 1, clock), 0, 'in the future')
  t.equal(new Watched(Infinity).age(clock.now() + 1, clock), Infinity)
})
