import t from 'tap'
import type { Extent } from '../../../daemon/backends/backend.js'
import { blockRegions, type BlockRegion } from '../../../daemon/operations/block-regions.js'
import { random } from '../backends/images.js'

/** From a text like 'ddd0d': one byte each, d is data, 0 and h (a hole) are zero. */
async function* extentsOf(text: string): AsyncGenerator<readonly Extent[]> {
  for (const match of text.matchAll(/d+|0+|h+/g)) {
    const zero = !match[0].startsWith('d')
    const hole = match[0].startsWith('h')
    yield await Promise.resolve([{ start: match.index, length: match[0].length, zero, hole }])
  }
}

async function regions(text: string, blockSize: number, size = text.length) {
  const all: BlockRegion[] = []
  for await (const region of blockRegions(extentsOf(text), size, blockSize)) all.push(region)
  return all
}

/** A letter a block, straight from the definition. */
function expected(text: string, blockSize: number): string {
  const blocks = text.match(new RegExp(`.{1,${blockSize}}`, 'g')) ?? []
  return blocks.map((block) => (block.includes('d') ? 'd' : '0')).join('')
}

const letters = (all: BlockRegion[], blockSize: number) =>
  all
    .map(({ start, end, zero }) => (zero ? '0' : 'd').repeat(Math.ceil((end - start) / blockSize)))
    .join('')

t.test('the example of the specification', async (t) => {
  const all = await regions('dddddd0dd00000000', 4)
  t.equal(letters(all, 4), 'ddd00')
  t.strictSame(all.at(-1), { start: 12, end: 17, zero: true })
})

t.test('edges', async (t) => {
  for (const text of [
    '0',
    'd',
    '0000',
    'dddd',
    '00000',
    '0000d',
    'd0000',
    '000d0000',
    'hh00',
    '',
  ]) {
    t.equal(letters(await regions(text, 4), 4), expected(text, 4), text)
  }
})

t.test('what extents do not tell of is data', async (t) => {
  t.strictSame(await regions('', 4, 9), [{ start: 0, end: 9, zero: false }])
  t.equal(letters(await regions('000000', 4, 12), 4), '0dd')
})

t.test('many random images', async (t) => {
  const next = random(7)
  for (let round = 0; round < 2000; round++) {
    let text = ''
    const runs = next(8)
    for (let run = 0; run < runs; run++) text += 'd0h'.charAt(next(3)).repeat(1 + next(12))
    const blockSize = 1 + next(6)
    const all = await regions(text, blockSize)
    let end = 0
    for (const region of all) {
      const isGood = region.start === end && region.end > end && region.start % blockSize === 0
      if (!isGood) t.fail(`${text} ${blockSize}`)
      end = region.end
    }
    if (end !== text.length || letters(all, blockSize) !== expected(text, blockSize)) {
      t.fail(`${text} ${blockSize}`)
    }
  }
  t.pass()
})

t.test('data is told before all extents are known', async (t) => {
  let asked = 0
  async function* endless(): AsyncGenerator<readonly Extent[]> {
    for (; ; asked++)
      yield await Promise.resolve([{ start: asked * 8, length: 8, zero: asked % 2 > 0 }])
  }
  for await (const region of blockRegions(endless(), 2 ** 40, 4)) if (region.start >= 80) break
  t.ok(asked <= 13, `${asked}`)
})
