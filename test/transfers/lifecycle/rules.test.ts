/** Small rules of the lifecycle: sizes of tickets, inactivity. */
import t from 'tap'
import { isInactive } from '../../../transfers/lifecycle/inactivity.js'
import { ticketSize } from '../../../transfers/lifecycle/ticket-size.js'
import { someTransfer } from '../records.js'

const MiB = 2 ** 20

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
  const tenTiB = 10 * 2 ** 40
  t.equal(size('upload', 'file', 'cow', tenTiB), 11 * 2 ** 40 + MiB, 'exact')
})

t.test('a transfer is inactive when the ticket was idle for longer than the timeout', async (t) => {
  const now = 1_000_000
  const transfer = someTransfer({ inactivityTimeout: 60, lastExtended: 0, updatedAt: now - 1000 })
  const state = {
    isActive: false,
    isCanceled: false,
    isBroken: false,
    transferred: 0,
    idleMs: 60_000,
  }
  t.equal(isInactive(transfer, state, now), false, 'just the timeout')
  t.equal(isInactive(transfer, { ...state, idleMs: 61_000 }, now), true)
  t.equal(isInactive(transfer, { ...state, isActive: true, idleMs: 61_000 }, now), false)
  t.equal(isInactive({ ...transfer, inactivityTimeout: 0 }, { ...state, idleMs: 1e9 }, now), false)
  const extended = { ...transfer, lastExtended: now - 5000 }
  t.equal(isInactive(extended, { ...state, idleMs: 1e9 }, now), false, 'extend is a sign of life')
  t.equal(isInactive(transfer, { ...state, idleMs: undefined }, now), false, 'its own memory')
  const silent = { ...transfer, updatedAt: now - 61_000 }
  t.equal(isInactive(silent, { ...state, idleMs: undefined }, now), true)
})
