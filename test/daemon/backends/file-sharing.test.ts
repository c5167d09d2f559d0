import { writeFile } from 'node:fs/promises'
import type { Test } from 'tap'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { content, difference, etagOf, imageFile, openImage, pattern, readAll } from './images.js'
import { inEachPlace } from './places.js'

inEachPlace(sharing)

async function sharing(t: Test, directory: string) {
  await t.test('two contexts in one block lose no update', async (t) => {
    const images = new ImageStates()
    const path = await imageFile(directory, 4096)
    const contexts = await Promise.all([1, 2, 3, 4].map(() => openImage(t, path, { images })))
    const expected = Buffer.alloc(4096)
    for (let round = 0; round < 200; round++) {
      await Promise.all(
        contexts.map((image, index) => {
          const offset = index * 128 + (round % 100)
          const bytes = pattern(28, round * 4 + index)
          bytes.copy(expected, offset)
          return image.pwrite(bytes, offset)
        }),
      )
      const found = await readAll(contexts[0]!)
      if (!found.equals(expected)) t.fail(`round ${round}: ${difference(found, expected)}`)
    }
    t.equal(difference(await content(path), expected), undefined)
  })

  await t.test('a tail beside whole blocks of another writer loses none', async (t) => {
    const images = new ImageStates()
    for (let round = 0; round < 100; round++) {
      const path = await imageFile(directory, pattern(700, 9))
      const [a, b] = [await openImage(t, path, { images }), await openImage(t, path, { images })]
      const expected = Buffer.alloc(9000)
      pattern(700, 9).copy(expected)
      const [tail, blocks] = [pattern(300, round), pattern(8300, round + 1)]
      tail.copy(expected, 400)
      blocks.copy(expected, 700)
      await Promise.all([a.pwrite(tail, 400), b.pwrite(blocks, 700)].map((done) => done))
      tail.copy(expected, 400)
      const found = await readAll(a)
      if (!found.equals(expected)) t.fail(`round ${round}: ${difference(found, expected)}`)
      await a.close()
      await b.close()
    }
  })

  await t.test('the entity tag changes with each write and is absent during one', async (t) => {
    const images = new ImageStates()
    const path = await imageFile(directory, pattern(8192))
    const reader = await openImage(t, path, { images, writable: false })
    const writer = await openImage(t, path, { images })
    const first = await etagOf(reader)
    t.match(first, /^[\w-]{20,}$/)
    t.equal(await etagOf(reader), first)
    const writing = writer.pwrite(pattern(8192), 0)
    t.equal(await etagOf(reader), undefined)
    await writing
    const second = await etagOf(reader)
    t.type(second, 'string')
    t.not(second, first)
    await writer.zero(0, 1, { mayPunchHole: false })
    t.not(await etagOf(reader), second)
    await writeFile(path, 'by someone else')
    t.notOk([first, second].includes(await etagOf(reader)))
  })

  await t.test('the entity tag of an unchanged image survives closing', async (t) => {
    const images = new ImageStates()
    const path = await imageFile(directory, pattern(8192))
    const image = await openImage(t, path, { images })
    await image.pwrite(Buffer.from('x'), 0)
    const tag = await etagOf(image)
    await image.close()
    t.equal(await etagOf(await openImage(t, path, { images })), tag)
    t.not(await etagOf(await openImage(t, path, { images: new ImageStates() })), tag)
  })

  await t.test('after a failed flush no flush of the image succeeds', async (t) => {
    const images = new ImageStates()
    const acquired: ReturnType<ImageStates['acquire']>[] = []
    const acquire = images.acquire.bind(images)
    images.acquire = (identity) => {
      const state = acquire(identity)
      acquired.push(state)
      return state
    }
    const path = await imageFile(directory, 4096)
    const [a, b] = [await openImage(t, path, { images }), await openImage(t, path, { images })]
    await a.flush()
    acquired[0]!.loseWrites(new Error('EIO'))
    for (const image of [a, b, a]) await t.rejects(image.flush(), { code: 'ERR_WRITES_LOST' })
  })
}
