import { once } from 'node:events'
import t from 'tap'
import { together } from '../../start/together.js'

const never = new AbortController().signal

t.test('results come in the order of the works', async (t) => {
  const works = [async () => 1, async () => 'two'] as const
  t.strictSame(await together<[number, string]>(never, works), [1, 'two'])
})

t.test('the first failure is told, when the others have ended', async (t) => {
  let hasEnded = false
  const waits = async (signal: AbortSignal): Promise<void> => {
    await once(signal, 'abort')
    await Promise.resolve()
    hasEnded = true
    throw new Error('aborted')
  }
  const fails = (): Promise<void> => Promise.reject(new Error('first'))
  await t.rejects(together<[unknown, unknown]>(never, [waits, fails]), { message: 'first' })
  t.ok(hasEnded)
})

t.test('who aborts ends all', async (t) => {
  const stop = new AbortController()
  const waits = async (signal: AbortSignal): Promise<void> => {
    await once(signal, 'abort')
    throw new Error('aborted')
  }
  const both = together<[unknown, unknown]>(stop.signal, [waits, waits])
  stop.abort()
  await t.rejects(both, { message: 'aborted' })
})
