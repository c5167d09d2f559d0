import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { ClientWatch, type WatchOptions } from '../../../core/http/watch.js'

function make(t: Test, options: WatchOptions): { watch: ClientWatch; expired: () => number } {
  mock.timers.enable({ apis: ['setInterval'] })
  let expirations = 0
  const watch = new ClientWatch(options, () => expirations++)
  t.teardown(() => {
    watch.stop()
    mock.timers.reset()
  })
  return { watch, expired: () => expirations }
}

const SILENCE = { inactivityMs: 10_000, minRate: 0 }
const RATE = { inactivityMs: 10_000, minRate: 100 }

t.test('a client that does nothing on its turn is given up, once', async (t) => {
  const { watch, expired } = make(t, SILENCE)
  watch.wait()
  mock.timers.tick(9_500)
  t.equal(expired(), 0)
  mock.timers.tick(500)
  t.equal(expired(), 1)
  mock.timers.tick(60_000)
  t.equal(expired(), 1)
})

t.test('time in which the server is busy does not count', async (t) => {
  const { watch, expired } = make(t, RATE)
  mock.timers.tick(60_000)
  for (let turn = 0; turn < 3; turn++) {
    watch.wait()
    mock.timers.tick(2_000)
    watch.moved(10_000)
    watch.done()
    mock.timers.tick(60_000)
  }
  t.equal(expired(), 0)
})

t.test('each turn begins with its full time', async (t) => {
  const { watch, expired } = make(t, SILENCE)
  for (let turn = 0; turn < 5; turn++) {
    watch.wait()
    mock.timers.tick(9_000)
    watch.done()
  }
  t.equal(expired(), 0)
})

t.test('any byte ends the silence', async (t) => {
  const { watch, expired } = make(t, SILENCE)
  watch.wait()
  for (let turn = 0; turn < 10; turn++) {
    mock.timers.tick(9_000)
    watch.moved(1)
    mock.timers.tick(500)
  }
  t.equal(expired(), 0)
  mock.timers.tick(10_000)
  t.equal(expired(), 1)
})

t.test('a client that moves bytes too slowly is given up', async (t) => {
  const { watch, expired } = make(t, RATE)
  watch.wait()
  for (let second = 1; second <= 9; second++) {
    watch.moved(99)
    mock.timers.tick(1_000)
  }
  t.equal(expired(), 0, 'the average over the whole time counts')
  watch.moved(99)
  mock.timers.tick(1_000)
  t.equal(expired(), 1)
})

t.test('a client that moves just enough may go on for ever', async (t) => {
  const { watch, expired } = make(t, RATE)
  watch.wait()
  for (let second = 1; second <= 100; second++) {
    watch.moved(100)
    mock.timers.tick(1_000)
  }
  t.equal(expired(), 0)
})

t.test('a burst counts for its window, not for the next one', async (t) => {
  const { watch, expired } = make(t, RATE)
  watch.wait()
  watch.moved(1_000_000)
  mock.timers.tick(10_000)
  t.equal(expired(), 0)
  for (let second = 1; second <= 10; second++) {
    watch.moved(1)
    mock.timers.tick(1_000)
  }
  t.equal(expired(), 1)
})

t.test('of several turns at a time the last one that ends is the end', async (t) => {
  const { watch, expired } = make(t, SILENCE)
  watch.wait()
  watch.wait()
  watch.done()
  mock.timers.tick(10_000)
  t.equal(expired(), 1)
})

t.test('a short timeout is looked at more often', async (t) => {
  const { watch, expired } = make(t, { inactivityMs: 100, minRate: 0 })
  watch.wait()
  mock.timers.tick(75)
  t.equal(expired(), 0)
  mock.timers.tick(25)
  t.equal(expired(), 1)
})

t.test('after its stop it is quiet', async (t) => {
  const { watch, expired } = make(t, SILENCE)
  watch.wait()
  watch.stop()
  watch.stop()
  mock.timers.tick(60_000)
  t.equal(expired(), 0)
})

t.test('time in which it is excused does not count', async (t) => {
  let isExcused = true
  const { watch, expired } = make(t, { ...RATE, isExcused: () => isExcused })
  watch.wait()
  mock.timers.tick(60_000)
  t.equal(expired(), 0)
  isExcused = false
  mock.timers.tick(9_500)
  t.equal(expired(), 0)
  mock.timers.tick(500)
  t.equal(expired(), 1)
})
