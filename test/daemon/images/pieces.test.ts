import t from 'tap'
import { inPieces } from '../../../daemon/images/pieces.js'
import { until } from '../../support/wait.js'

/** For ever, as far as these tests go. */
const PATIENT = 60_000

async function* words(...list: readonly (string | Promise<unknown>)[]): AsyncGenerator<string> {
  for (const word of list) {
    if (typeof word === 'string') yield word
    else await word
  }
}

async function collect(pieces: ReturnType<typeof inPieces>): Promise<[string, boolean][]> {
  const all: [string, boolean][] = []
  for await (const { text, isLast } of pieces) all.push([text, isLast])
  return all
}

t.test('text is collected up to the size of a piece', async (t) => {
  const pieces = inPieces(words('ab', 'cd', 'ef', 'g'), { size: 4, lingerMs: PATIENT })
  t.strictSame(await collect(pieces), [
    ['abcd', false],
    ['efg', true],
  ])
  t.strictSame(await collect(inPieces(words(), { size: 4, lingerMs: PATIENT })), [['', true]])
  t.strictSame(await collect(inPieces(words('abc'), { size: 4, lingerMs: PATIENT })), [
    ['abc', true],
  ])
})

t.test('a piece does not wait for long', async (t) => {
  const more = Promise.withResolvers<undefined>()
  const pieces = inPieces(words('ab', more.promise, 'cd'), { size: 100, lingerMs: 1 })
  t.strictSame((await pieces.next()).value, { text: 'ab', isLast: false })
  more.resolve(undefined)
  t.strictSame(await collect(pieces), [['cd', true]])
})

t.test('nothing is sent while nothing is known', async (t) => {
  const more = Promise.withResolvers<undefined>()
  const pieces = inPieces(words(more.promise, 'ab'), { size: 100, lingerMs: 0 })
  const first = pieces.next()
  const early = await Promise.race([first, new Promise((resolve) => setTimeout(resolve, 20))])
  t.equal(early, undefined)
  more.resolve(undefined)
  t.match((await first).value, { text: 'ab' })
  await pieces.return(undefined)
})

t.test('at most one piece is held', async (t) => {
  let given = 0
  const texts = (async function* () {
    for (; given < 100; given++) yield 'abcd'
  })()
  const pieces = inPieces(texts, { size: 4, lingerMs: PATIENT })
  await pieces.next()
  await new Promise(setImmediate)
  t.ok(given <= 2, `${given}`)
  await pieces.return(undefined)
})

t.test('an error comes through, and the end of who listens', async (t) => {
  const failing = inPieces(words('ab', Promise.reject(new Error('lost'))), {
    ...{ size: 100, lingerMs: PATIENT },
  })
  await t.rejects(failing.next(), { message: 'lost' })
  let isEnded = false
  const texts = (async function* () {
    try {
      for (;;) yield 'abcd'
    } finally {
      isEnded = true
    }
  })()
  const pieces = inPieces(texts, { size: 8, lingerMs: PATIENT })
  t.match((await pieces.next()).value, { text: 'abcdabcd', isLast: false })
  await pieces.return(undefined)
  await until('the end', () => isEnded)
})
