import t from 'tap'
import { RangeLock } from '../../../daemon/backends/range-lock.js'

/** Records in which order locks are granted. */
function recorder(lock: RangeLock) {
  const granted: string[] = []
  const releases = new Map<string, () => void>()
  const ask = async (
    name: string,
    start: number,
    end: number,
    mode: 'shared' | 'exclusive',
    signal?: AbortSignal,
  ) => {
    releases.set(name, await lock.acquire(start, end, mode, signal))
    granted.push(name)
  }
  const release = async (name: string) => {
    releases.get(name)?.()
    await turn()
  }
  return { granted, ask, release }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

t.test('shared locks of one range are held together', async (t) => {
  const { granted, ask } = recorder(new RangeLock())
  ask('a', 0, 10, 'shared')
  ask('b', 5, 15, 'shared')
  await turn()
  t.same(granted, ['a', 'b'])
})

t.test('an exclusive lock waits for those that overlap and for no others', async (t) => {
  const { granted, ask, release } = recorder(new RangeLock())
  ask('a', 0, 10, 'shared')
  ask('b', 9, 20, 'exclusive')
  ask('c', 20, 30, 'exclusive')
  await turn()
  t.same(granted, ['a', 'c'])
  await release('a')
  t.same(granted, ['a', 'c', 'b'])
})

t.test('a later shared lock does not overtake a waiting exclusive one', async (t) => {
  const { granted, ask, release } = recorder(new RangeLock())
  ask('a', 0, 10, 'shared')
  ask('b', 0, 10, 'exclusive')
  ask('c', 0, 10, 'shared')
  await turn()
  t.same(granted, ['a'])
  await release('a')
  t.same(granted, ['a', 'b'])
  await release('b')
  t.same(granted, ['a', 'b', 'c'])
})

t.test('a lock to infinity meets everything behind its start', async (t) => {
  const { granted, ask, release } = recorder(new RangeLock())
  ask('tail', 100, Infinity, 'exclusive')
  ask('before', 0, 100, 'exclusive')
  ask('behind', 2 ** 50, 2 ** 50 + 1, 'shared')
  await turn()
  t.same(granted, ['tail', 'before'])
  await release('tail')
  t.same(granted, ['tail', 'before', 'behind'])
})

t.test('an aborted wait rejects and lets those behind it pass', async (t) => {
  const lock = new RangeLock()
  const { granted, ask, release } = recorder(lock)
  const abort = new AbortController()
  ask('a', 0, 10, 'shared')
  const waiting = ask('b', 0, 10, 'exclusive', abort.signal)
  ask('c', 0, 10, 'shared')
  await turn()
  abort.abort(new Error('cancelled'))
  await t.rejects(waiting, { message: 'cancelled' })
  await turn()
  t.same(granted, ['a', 'c'])
  await release('a')
  await release('c')
  t.equal(lock.size, 0)
})

t.test('an aborted signal asks for nothing', async (t) => {
  const lock = new RangeLock()
  await t.rejects(lock.acquire(0, 1, 'shared', AbortSignal.abort(new Error('before'))), {
    message: 'before',
  })
  t.equal(lock.size, 0)
})

t.test('releasing twice does not release someone else', async (t) => {
  const lock = new RangeLock()
  const release = await lock.acquire(0, 10, 'exclusive')
  release()
  const second = recorder(lock)
  await second.ask('b', 0, 10, 'exclusive')
  second.ask('c', 0, 10, 'exclusive')
  release()
  await turn()
  t.same(second.granted, ['b'])
})

t.test('at no time do two conflicting locks hold, whatever the order', async (t) => {
  const lock = new RangeLock()
  const held = new Map<number, number>()
  let conflicts = 0
  await Promise.all(
    Array.from({ length: 500 }, async (_, index) => {
      const start = (index * 7) % 40
      const end = start + 1 + (index % 5)
      const release = await lock.acquire(start, end, 'exclusive')
      for (let byte = start; byte < end; byte++) {
        if (held.has(byte)) conflicts++
        held.set(byte, index)
      }
      await turn()
      for (let byte = start; byte < end; byte++) held.delete(byte)
      release()
    }),
  )
  t.equal(conflicts, 0)
  t.equal(lock.size, 0)
})
