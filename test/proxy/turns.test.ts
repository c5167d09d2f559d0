import t from 'tap'
import { setImmediate as turn } from 'node:timers/promises'
import { Turns } from '../../proxy/turns.js'

const NEVER = new AbortController().signal

t.test('who is too many waits, and goes in order', async (t) => {
  const turns = new Turns({ limit: 2, waitMs: 60_000, late: () => new Error('late') })
  const ends = [await turns.take(NEVER), await turns.take(NEVER)]
  const came: string[] = []
  const waiting = ['a', 'b'].map(async (name) => {
    const end = await turns.take(NEVER)
    came.push(name)
    return end
  })
  await turn()
  t.strictSame(came, [])
  ends[0]?.()
  ends[0]?.()
  await waiting[0]
  await turn()
  t.strictSame(came, ['a'], 'an end counts once')
  ends[1]?.()
  for (const end of await Promise.all(waiting)) end()
  ;(await turns.take(NEVER))()
})

t.test('who waits too long, or no more, is told so and takes no turn', async (t) => {
  const turns = new Turns({ limit: 1, waitMs: 1, late: () => new Error('late') })
  const end = await turns.take(NEVER)
  await t.rejects(turns.take(NEVER), { message: 'late' })
  await t.rejects(turns.take(AbortSignal.abort(new Error('gone'))), { message: 'gone' })
  const abort = new AbortController()
  const leaving = turns.take(abort.signal)
  abort.abort(new Error('left'))
  await t.rejects(leaving, { message: 'left' })
  end()
  ;(await turns.take(NEVER))()
})
