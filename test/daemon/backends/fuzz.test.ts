import t, { type Test } from 'tap'
import type { Backend } from '../../../daemon/backends/backend.js'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import {
  loopDevice,
  mountedFileSystem,
  mountedTmpfs,
  withoutLoopDevices,
} from '../../support/loop-device.js'
import { without } from '../../support/tools.js'
import { collect, content, difference, imageFile, openImage, pattern, random } from './images.js'

/** IMAGEIO_FUZZ_SEED repeats a run; IMAGEIO_FUZZ_ROUNDS makes it longer. */
const seed = Number(process.env['IMAGEIO_FUZZ_SEED'] ?? Date.now() % 1_000_000)
const rounds = Number(process.env['IMAGEIO_FUZZ_ROUNDS'] ?? 150)

const MiB = 1024 * 1024
const SPACE = 1 * MiB
const skip = await withoutLoopDevices()

t.comment(`seed ${seed}`)

/** The bytes an image should have; grows as a file does. */
class Model {
  bytes = Buffer.alloc(0)
  write(bytes: Buffer, offset: number) {
    this.#reach(offset + bytes.length)
    bytes.copy(this.bytes, offset)
  }
  zero(offset: number, size: number) {
    this.#reach(offset + size)
    this.bytes.fill(0, offset, offset + size)
  }
  #reach(end: number) {
    if (end > this.bytes.length)
      this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - this.bytes.length)])
  }
}

/** Ranges close together, that never overlap: what overlaps may end either way. */
function disjointRanges(next: (below: number) => number, space: number) {
  const ranges = []
  const longest = [40, 700, 6000, 100_000][next(4)]!
  let offset = next(4) === 0 ? next(longest) : next(space)
  for (let count = 1 + next(8); count > 0; count--) {
    const size = 1 + next(longest)
    if (offset + size > space) break
    ranges.push({ offset, size })
    offset += size + (next(3) === 0 ? next(600) : 0)
  }
  return ranges
}

async function fuzz(t: Test, images: Backend[], model: Model, fileOf?: string): Promise<unknown> {
  const next = random(seed)
  for (let round = 0; round < rounds; round++) {
    const wanted: (() => void)[] = []
    await Promise.all(
      disjointRanges(next, SPACE).map(({ offset, size }) => {
        const image = images[next(images.length)]!
        if (next(3) === 0) {
          wanted.push(() => model.zero(offset, size))
          return image.zero(offset, size, { mayPunchHole: next(2) === 0 })
        }
        // Not at a page boundary, as buffers of sockets are not.
        const bytes = Buffer.concat([Buffer.alloc(next(5)), pattern(size, next(1000))])
        const body = bytes.subarray(bytes.length - size)
        wanted.push(() => model.write(body, offset))
        return image.pwrite(body, offset)
      }),
    )
    for (const apply of wanted) apply()
    const where = next(model.bytes.length + 10)
    const found = Buffer.alloc(1 + next(20_000))
    const got = await images[next(images.length)]!.pread(found, where)
    const problem = difference(
      found.subarray(0, got),
      model.bytes.subarray(where, where + found.length),
    )
    if (problem !== undefined) return t.fail(`round ${round}, read at ${where}: ${problem}`)
    if ((await images[0]!.size()) !== model.bytes.length) return t.fail(`round ${round}: size`)
    if (round % 10 === 0) await images[next(images.length)]!.flush()
  }
  return compare(t, images[0]!, model, fileOf)
}

async function compare(t: Test, image: Backend, model: Model, fileOf?: string) {
  const all = Buffer.alloc(model.bytes.length)
  await image.pread(all, 0)
  t.equal(difference(all, model.bytes), undefined, 'as the backend reads it')
  if (fileOf !== undefined)
    t.equal(difference(await content(fileOf), model.bytes), undefined, 'as others read it')
  let position = 0
  for (const { start, length, zero } of await collect(image.extents(0, all.length, 'zero'))) {
    t.equal(start, position)
    position += length
    if (zero) t.ok(model.bytes.subarray(start, position).every((byte) => byte === 0))
  }
  t.equal(position, all.length)
}

async function fuzzFile(t: Test, directory: string) {
  const images = new ImageStates()
  const path = await imageFile(directory, 0)
  const backends = await Promise.all([1, 2, 3].map(() => openImage(t, path, { images })))
  t.comment(`block size ${backends[0]!.blockSize}`)
  await fuzz(t, backends, new Model(), path)
}

t.test('a file in the checkout', (t) => fuzzFile(t, t.testdir({})))

t.test('a file on tmpfs', { skip }, async (t) =>
  fuzzFile(t, await mountedTmpfs(t, { size: 64 * MiB })),
)

for (const type of ['ext4', 'ext2', 'xfs']) {
  for (const sectorSize of [512, 4096]) {
    const lacks = skip || without(`mkfs.${type}`)
    t.test(`a file on ${type} with sectors of ${sectorSize} bytes`, { skip: lacks }, async (t) => {
      const size = 320 * MiB
      const directory = await mountedFileSystem(t, { size, type, sectorSize })
      await fuzzFile(t, directory)
    })
  }
}

for (const sectorSize of [512, 4096]) {
  t.test(`a device with sectors of ${sectorSize} bytes`, { skip }, async (t) => {
    const { path } = await loopDevice(t, { size: SPACE, sectorSize })
    const images = new ImageStates()
    const backends = await Promise.all([1, 2, 3].map(() => openImage(t, path, { images })))
    const model = new Model()
    model.zero(0, SPACE)
    await fuzz(t, backends, model)
  })
}
