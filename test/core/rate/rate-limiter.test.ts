import t, { type Test } from 'tap'
import { RateLimiter } from '../../../core/rate/rate-limiter.js'
import type { Share } from '../../../core/rate/share.js'
import { KiB, MiB } from '../../../core/units.js'
import { busiest, Mover, VirtualClock } from './virtual-clock.js'

function make(t: Test, bytesPerSecond = 0) {
  const clock = new VirtualClock()
  const rates = new RateLimiter({ bytesPerSecond, clock })
  const movers: Mover[] = []
  const mover = (share: Share, options?: { piece?: number; pieceMs?: number }): Mover => {
    const made = new Mover(clock, share, options)
    movers.push(made)
    return made
  }
  t.teardown(() => movers.forEach(({ abort }) => abort.abort()))
  return { clock, rates, mover }
}

/** Within a tenth: pieces are whole, and who was away may be a little ahead. */
function about(t: Test, actual: number, expected: number, name: string): void {
  t.ok(Math.abs(actual - expected) <= expected / 10, `${name}: ${actual} of ${expected}`)
}

t.test('without a limit nobody is asked to wait', async (t) => {
  const { rates, clock } = make(t)
  const share = rates.share()
  t.equal(share.isLimited, false)
  t.equal(await share.take(5 * MiB, new AbortController().signal), 5 * MiB)
  share.giveBack(1)
  t.equal(clock.timers, 0)
})

for (const rate of [1000, 64 * KiB, 10 * MiB, 100e6, 4e9]) {
  t.test(`a rate of ${rate} is kept, and used`, async (t) => {
    const { clock, rates, mover } = make(t)
    const movers = [mover(rates.share(rate)), mover(rates.share(rate))]
    const [one] = movers as [Mover]
    await clock.pass(4000)
    // At 4 GB/s the pieces of one connection, each in its turn of the loop, are the limit.
    if (rate < 1e9) about(t, one.recent(3000), 3 * rate, 'in three seconds')
    for (const ms of [100, 250, 1000]) {
      const most = (rate * (ms + 150)) / 1000 + KiB
      t.ok(busiest([one], ms) <= most, `${busiest([one], ms)} of ${most} in ${ms} ms`)
    }
  })
}

t.test('a limit for all is one for all tickets together', async (t) => {
  const { clock, rates, mover } = make(t, MiB)
  const movers = Array.from({ length: 5 }, () => mover(rates.share()))
  await clock.pass(5000)
  about(
    t,
    movers.reduce((sum, one) => sum + one.recent(4000), 0),
    4 * MiB,
    'together',
  )
  for (const one of movers) about(t, one.recent(4000), (4 * MiB) / 5, 'each')
  for (const ms of [100, 250, 1000]) t.ok(busiest(movers, ms) <= (MiB * (ms + 150)) / 1000 + KiB)
})

for (const pieceMs of [0, 1, 5]) {
  t.test(
    `tickets share evenly, whatever connections they have; a piece takes ${pieceMs} ms`,
    async (t) => {
      const { clock, rates, mover } = make(t, 20 * MiB)
      const [one, four] = [rates.share(), rates.share()]
      const alone = mover(one, { pieceMs })
      const others = Array.from({ length: 4 }, () => mover(four, { pieceMs }))
      await clock.pass(5000)
      about(t, alone.recent(4000), 40 * MiB, 'one connection')
      about(
        t,
        others.reduce((sum, other) => sum + other.recent(4000), 0),
        40 * MiB,
        'four',
      )
      for (const other of others) about(t, other.recent(4000), 10 * MiB, 'each of the four')
    },
  )
}

t.test('small pieces of one do not give the other more', async (t) => {
  const { clock, rates, mover } = make(t, 10 * MiB)
  const small = mover(rates.share(), { piece: 16 * KiB })
  const large = mover(rates.share(), { piece: 4 * MiB })
  await clock.pass(5000)
  about(t, small.recent(4000), 20 * MiB, 'small pieces')
  about(t, large.recent(4000), 20 * MiB, 'large pieces')
})

t.test('what a ticket may not use is left to the others', async (t) => {
  const { clock, rates, mover } = make(t, 10 * MiB)
  const limited = mover(rates.share(MiB))
  const free = [mover(rates.share()), mover(rates.share())]
  await clock.pass(5000)
  about(t, limited.recent(4000), 4 * MiB, 'limited')
  for (const one of free) about(t, one.recent(4000), 18 * MiB, 'free')
})

t.test('what a slow client does not use is left to the others', async (t) => {
  const { clock, rates, mover } = make(t, 10 * MiB)
  const slow = mover(rates.share(), { piece: 64 * KiB, pieceMs: 100 })
  const fast = mover(rates.share())
  await clock.pass(5000)
  about(t, slow.recent(4000), 40 * 64 * KiB, 'slow')
  about(t, fast.recent(4000), 40 * MiB - slow.recent(4000), 'fast')
})

t.test('who comes later or was away has its half at once, and no more', async (t) => {
  const { clock, rates, mover } = make(t, 10 * MiB)
  const first = mover(rates.share())
  await clock.pass(60_000)
  const second = mover(rates.share())
  await clock.pass(2000)
  about(t, first.recent(2000), 10 * MiB, 'the first')
  about(t, second.recent(2000), 10 * MiB, 'the second')
})

t.test('a limit is changed under those who wait', async (t) => {
  const { clock, rates, mover } = make(t)
  const share = rates.share(10)
  const one = mover(share)
  await clock.pass(500)
  t.equal(one.total, KiB, 'the next would be in a hundred seconds')
  share.setRate(10 * MiB)
  await clock.pass(1000)
  about(t, one.recent(1000), 10 * MiB, 'more')
  share.setRate(64 * KiB)
  await clock.pass(3000)
  about(t, one.recent(2000), 128 * KiB, 'less: what was had before is not counted')
  share.setRate(0)
  t.equal(share.isLimited, false)
  await clock.pass(100)
  t.ok(one.recent(100) >= 90 * MiB, 'none')
  t.equal(share.bytesPerSecond, 0)
})

t.test('a lifted limit is no claim on what was not used', async (t) => {
  const { clock, rates, mover } = make(t, 10 * MiB)
  const share = rates.share(MiB)
  const [limited, free] = [mover(share), mover(rates.share())]
  await clock.pass(30_000)
  share.setRate(0)
  await clock.pass(2000)
  about(t, limited.recent(2000), 10 * MiB, 'no longer limited')
  about(t, free.recent(2000), 10 * MiB, 'always free')
})

t.test('who is aborted waits no longer, and keeps no timer', async (t) => {
  const { clock, rates, mover } = make(t, 1)
  const share = rates.share()
  const [first, second, third] = [mover(share), mover(share), mover(share)]
  await clock.pass(1)
  t.equal(first.total, KiB)
  const reason = new Error('left')
  second.abort.abort(reason)
  t.equal(await second.done, reason)
  t.equal(clock.timers, 1)
  for (const { abort } of [first, third]) abort.abort(reason)
  t.equal(await third.done, reason)
  t.equal(clock.timers, 0)
  await t.rejects(share.take(1, AbortSignal.abort(reason)), reason)
  t.equal(clock.timers, 0)
})

t.test('a share that is ended lets nobody wait', async (t) => {
  const { clock, rates, mover } = make(t, 1)
  const [share, other] = [rates.share(), rates.share()]
  mover(other)
  const movers = [mover(share), mover(share)]
  await clock.pass(1)
  const reason = new Error('canceled')
  share.end(reason)
  for (const { done } of movers) t.equal(await done, reason)
  await t.rejects(share.take(1, new AbortController().signal), reason)
  share.end(new Error('again'))
  await t.rejects(share.take(1, new AbortController().signal), reason)
  t.equal(clock.timers, 1, 'for the other one')
})

t.test('what was taken and did not move is there for others', async (t) => {
  const { clock, rates } = make(t, MiB)
  const [one, other] = [rates.share(), rates.share(MiB)]
  const { signal } = new AbortController()
  const size = await one.take(MiB, signal)
  const next = other.take(MiB, signal)
  t.equal(clock.timers, 1)
  one.giveBack(size)
  t.ok((await next) > 0, 'no time has passed')
  one.giveBack(0)
  t.equal(clock.timers, 0)
})

t.test('who gives back has had less', async (t) => {
  const { clock, rates, mover } = make(t, 10 * MiB)
  const share = rates.share()
  const other = mover(rates.share())
  const { signal } = new AbortController()
  let moved = 0
  const wasteful = (async () => {
    for (;;) {
      const size = await share.take(MiB, signal)
      share.giveBack(size - 1024)
      moved += 1024
      await clock.sleep(10)
    }
  })()
  wasteful.catch(() => undefined)
  await clock.pass(3000)
  t.ok(moved >= 50 * KiB, `${moved}: a turn each time`)
  about(t, other.recent(2000), 20 * MiB, 'the rest')
})

t.test('within a ticket connections take turns', async (t) => {
  const { clock, rates, mover } = make(t)
  const share = rates.share(MiB)
  const movers = Array.from({ length: 8 }, () => mover(share))
  await clock.pass(9000)
  for (const one of movers) about(t, one.recent(8000), MiB, 'each')
})

t.test('a clock that wakes too early or late changes nothing', async (t) => {
  for (const factor of [0.5, 3]) {
    const clock = new VirtualClock()
    const odd = {
      now: () => clock.now(),
      setTimer: (ms: number, callback: () => void) =>
        clock.setTimer(Math.ceil(ms * factor), callback),
    }
    const one = new Mover(clock, new RateLimiter({ bytesPerSecond: MiB, clock: odd }).share())
    await clock.pass(5000)
    one.abort.abort()
    t.ok(busiest([one], 1000) <= MiB * 1.15 + KiB, `${factor}`)
    t.ok(one.recent(4000) >= 4 * MiB * 0.9, `${factor}: ${one.recent(4000)}`)
  }
})
