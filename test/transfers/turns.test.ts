import t from 'tap'
import { Turns } from '../../transfers/turns.js'

/** Works that end when they are told to, and the order in which they began. */
function works() {
  const begun: string[] = []
  const ends = new Map<string, PromiseWithResolvers<string>>()
  const work = (name: string) => async (): Promise<string> => {
    begun.push(name)
    const end = Promise.withResolvers<string>()
    ends.set(name, end)
    return end.promise
  }
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  return { begun, work, end: (name: string) => ends.get(name), settled }
}

t.test('no more than the limit run at once, others wait in order', async (t) => {
  const { begun, work, end, settled } = works()
  const turns = new Turns(2)
  const all = ['a', 'b', 'c', 'd'].map((name) => turns.take(work(name)))
  await settled()
  t.strictSame(begun, ['a', 'b'])
  end('b')?.resolve('b')
  t.equal(await all[1], 'b')
  await settled()
  t.strictSame(begun, ['a', 'b', 'c'])
  end('a')?.reject(new Error('wrong'))
  await t.rejects(all[0] ?? Promise.resolve(''), /wrong/)
  await settled()
  t.strictSame(begun, ['a', 'b', 'c', 'd'], 'a failure ends a turn as well')
  const late = turns.take(work('e'))
  for (const name of ['c', 'd']) end(name)?.resolve(name)
  t.strictSame(await Promise.all(all.slice(2)), ['c', 'd'])
  await settled()
  end('e')?.resolve('e')
  t.equal(await late, 'e')
})

t.test('at the end those who wait are sent away, and who runs is not', async (t) => {
  const { begun, work, end, settled } = works()
  const turns = new Turns(1)
  const first = turns.take(work('a'))
  const second = turns.take(work('b'))
  await settled()
  turns.close(new Error('over'))
  await t.rejects(second, /over/)
  await t.rejects(turns.take(work('c')), /over/)
  end('a')?.resolve('a')
  t.equal(await first, 'a')
  t.strictSame(begun, ['a'])
})
