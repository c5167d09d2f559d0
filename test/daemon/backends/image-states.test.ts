import t from 'tap'
import { ImageStates } from '../../../daemon/backends/image-states.js'

const write = async () => undefined

t.test('one image has one state while anyone has it open', (t) => {
  const images = new ImageStates()
  const state = images.acquire('a')
  t.equal(images.acquire('a'), state)
  t.not(images.acquire('b'), state)
  images.release(state)
  t.equal(images.acquire('a'), state, 'still open once')
  images.release(state)
  images.release(state)
  t.not(images.acquire('a'), state, 'a new one after the last release')
  t.end()
})

t.test('an image that is only read keeps its generation when opened again', (t) => {
  const images = new ImageStates()
  const first = images.acquire('a')
  const { generation } = first
  images.release(first)
  t.equal(images.acquire('a').generation, generation)
  t.end()
})

t.test('a write is remembered after the image was closed', async (t) => {
  const images = new ImageStates()
  const state = images.acquire('a')
  const before = state.generation
  await state.mutate(write)
  const after = state.generation
  images.release(state)
  const again = images.acquire('a').generation
  t.not(after, before)
  t.equal(again, after)
})

t.test('no image gets back a generation it had before other bytes', async (t) => {
  const images = new ImageStates({ maxRemembered: 2 })
  const seen = new Map<string, Set<number>>()
  for (let round = 0; round < 20; round++) {
    for (const identity of ['a', 'b', 'c', 'd']) {
      const state = images.acquire(identity)
      await state.mutate(write)
      const generations = seen.get(identity) ?? new Set()
      t.notOk(generations.has(state.generation))
      generations.add(state.generation)
      seen.set(identity, generations)
      images.release(state)
      const reopened = images.acquire(identity)
      generations.add(reopened.generation)
      images.release(reopened)
    }
  }
})

t.test('the generation moves before and after a write, also one that fails', async (t) => {
  const state = new ImageStates().acquire('a')
  const before = state.generation
  let during = before
  const failing = state.mutate(async () => {
    during = state.generation
    t.equal(state.isMutating(), true)
    throw new Error('storage')
  })
  await t.rejects(failing, { message: 'storage' })
  t.equal(state.isMutating(), false)
  t.equal(new Set([before, during, state.generation]).size, 3)
})

t.test('lost writes stay lost while the image is open', (t) => {
  const images = new ImageStates()
  const state = images.acquire('a')
  state.throwIfWritesLost()
  state.loseWrites(new Error('EIO'))
  for (let time = 0; time < 2; time++)
    t.throws(() => images.acquire('a').throwIfWritesLost(), {
      code: 'ERR_WRITES_LOST',
      statusCode: 500,
      cause: { message: 'EIO' },
    })
  t.end()
})

t.test(
  'who wrote and closed is told of a loss, until a flush or the end of its ticket',
  async (t) => {
    const images = new ImageStates()
    const told: string[] = []
    const writer = (name: string, canceled = new AbortController().signal) => ({
      loseWrites: () => told.push(name),
      canceled,
    })
    const ending = new AbortController()
    const writeAs = async (name: string, canceled?: AbortSignal): Promise<void> => {
      const state = images.acquire('a')
      await state.mutate(write, writer(name, canceled))
      images.release(state)
    }
    await writeAs('flushed')
    const state = images.acquire('a')
    await state.flush(async () => {
      await writeAs('while it was flushed')
    })
    images.release(state)
    await writeAs('closed')
    await writeAs('ended', ending.signal)
    ending.abort()
    t.strictSame(told, [])
    const again = images.acquire('a')
    again.loseWrites(new Error('EIO'))
    t.strictSame(told, ['while it was flushed', 'closed'])
    images.release(again)
    t.not(images.acquire('a'), again, 'nothing is kept when nobody has to be told')
  },
)

t.test(
  'an image is kept for those to be told, and starts over when nobody has it open',
  async (t) => {
    const images = new ImageStates()
    const ending = new AbortController()
    const state = images.acquire('a')
    state.loseWrites(new Error('EIO'))
    t.throws(() => state.throwIfWritesLost())
    await state.mutate(write, { loseWrites: () => undefined, canceled: ending.signal })
    images.release(state)
    t.equal(images.acquire('a'), state)
    t.doesNotThrow(() => state.throwIfWritesLost())
    images.release(state)
    ending.abort()
    t.not(images.acquire('a'), state)
  },
)
