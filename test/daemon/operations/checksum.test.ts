import { createHash } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Extent } from '../../../daemon/backends/backend.js'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import {
  DIGEST_ALGORITHMS,
  checksumImage,
  type BlockRun,
  type ChecksumOptions,
} from '../../../daemon/operations/checksum.js'
import { loopDevice, withoutLoopDevices } from '../../support/loop-device.js'
import {
  imageFile,
  openImage,
  pattern,
  random,
  tmpfsDirectory,
  withoutTmpfs,
} from '../backends/images.js'
import { IMAGES, VECTORS } from './checksum-vectors.js'
import { KiB, MiB, contextWith, covers, turn } from './peers.js'

/** Straight from the definition, with node:crypto. */
function expected(image: Buffer, blockSize: number): string {
  const outer = createHash('sha256')
  for (let offset = 0; offset < image.length; offset += blockSize) {
    const block = image.subarray(offset, offset + blockSize)
    outer.update(createHash('sha256').update(block).digest())
  }
  return outer.digest('hex')
}

/** Knows its extents by itself, and which bytes were read. */
class CountingBackend extends MemoryBackend {
  bytesRead = 0
  readsNow = 0
  mostReads = 0
  map: Extent[] | undefined
  before: (offset: number) => Promise<void> = () => turn()

  override async pread(buffer: Buffer, offset: number): Promise<number> {
    this.mostReads = Math.max(this.mostReads, ++this.readsNow)
    await this.before(offset)
    this.readsNow--
    this.bytesRead += buffer.length
    return super.pread(buffer, offset)
  }

  override size(): Promise<number> {
    const ends = this.map?.map(({ start, length }) => start + length) ?? []
    return Promise.resolve(Math.max(this.data.length, ...ends))
  }

  override async *extents(start: number, end: number): AsyncGenerator<readonly Extent[]> {
    const all = this.map ?? [{ start, length: end - start, zero: false, hole: false }]
    for (const extent of all) yield await Promise.resolve([extent])
  }
}

const SHA256: ChecksumOptions = { algorithm: 'sha256', blockSize: 64 * KiB }

t.test('138: every vector of the specification', async (t) => {
  t.equal(VECTORS.length, 48, 'none is forgotten')
  const directory = t.testdir()
  for (const [name, make] of Object.entries(IMAGES)) {
    const image = make()
    const onDisk = await openImage(t, await imageFile(directory, image))
    for (const { algorithm, blockSize, checksum } of VECTORS.filter((one) => one.image === name)) {
      for (const backend of [new MemoryBackend(image), new CountingBackend(image), onDisk]) {
        const context = contextWith({ bufferSize: 256 * KiB, count: 8 })
        const options = { algorithm, blockSize }
        const found = await checksumImage(backend, image.length, options, context)
        t.equal(found, checksum, `${name} ${algorithm} ${blockSize} ${backend.name}`)
        t.ok(covers(context, 0, image.length), 'progress')
        t.equal(context.buffers.counts.lent, 0)
      }
    }
  }
})

t.test('sparse files of odd size, with holes that no block boundary meets', async (t) => {
  const directory = t.testdir()
  const path = await imageFile(directory, 9 * MiB + 777)
  const file = await openImage(t, path)
  for (const [offset, size] of [
    [0, 100],
    [3 * MiB + 5, 70 * KiB],
    [9 * MiB + 700, 77],
  ] as const) {
    await file.pwrite(pattern(size), offset)
  }
  const size = await file.size()
  const image = Buffer.alloc(size)
  await file.pread(image, 0)
  for (const blockSize of [4 * KiB, 64 * KiB, MiB, 16 * MiB]) {
    for (const end of [size, size - 1, 4 * MiB + 3]) {
      const options = { algorithm: 'sha256', blockSize } as const
      const found = await checksumImage(file, end, options, contextWith({ bufferSize: 32 * KiB }))
      t.equal(found, expected(image.subarray(0, end), blockSize), `${blockSize} ${end}`)
    }
  }
})

t.test('zero blocks are not read, and an 8 TiB hole takes no time', async (t) => {
  const backend = new CountingBackend(Buffer.alloc(0))
  const size = 8 * 2 ** 40
  backend.map = [{ start: 0, length: size, zero: true }]
  const context = contextWith()
  const options = { algorithm: 'blake2b', blockSize: 4 * MiB } as const
  const startedAt = performance.now()
  await checksumImage(backend, size, options, context)
  t.equal(backend.bytesRead, 0)
  t.ok(covers(context, 0, size))
  t.ok(context.progress.length > 500, 'in steps')
  t.comment(`${Math.round(performance.now() - startedAt)} ms`)
})

t.test('the result does not depend on what extents say of zeroes', async (t) => {
  const next = random(3)
  for (let round = 0; round < 30; round++) {
    const image = Buffer.alloc(300 * KiB + next(5000))
    for (let part = 0; part < 4; part++) {
      const at = next(image.length)
      image.fill(1 + next(255), at, Math.min(image.length, at + next(90 * KiB)))
    }
    const backend = new CountingBackend(image, { blockSize: 4096 })
    const told = new MemoryBackend(image)
    const wanted = expected(image, SHA256.blockSize)
    for (const one of [backend, told]) {
      t.equal(await checksumImage(one, image.length, SHA256, contextWith()), wanted)
    }
  }
})

t.test('several blocks are read at a time, with one buffer each', async (t) => {
  const image = pattern(4 * MiB)
  const backend = new CountingBackend(image)
  const context = contextWith({ bufferSize: 16 * KiB, count: 3 })
  t.equal(
    await checksumImage(backend, image.length, SHA256, context),
    expected(image, SHA256.blockSize),
  )
  t.ok(backend.mostReads > 1 && backend.mostReads <= 3, `${backend.mostReads}`)
  t.strictSame(context.buffers.counts.lent, 0)
})

t.test('one buffer is enough', async (t) => {
  const image = pattern(MiB + 1)
  const context = contextWith({ bufferSize: 16 * KiB, count: 1 })
  const found = await checksumImage(new CountingBackend(image), image.length, SHA256, context)
  t.equal(found, expected(image, SHA256.blockSize))
})

t.test('blocks are told in order, zeroes found in data too', async (t) => {
  const image = Buffer.concat([pattern(64 * KiB), Buffer.alloc(128 * KiB), pattern(100)])
  const told = async (map: Extent[]): Promise<BlockRun[]> => {
    const backend = new CountingBackend(image)
    backend.map = map
    const all: BlockRun[] = []
    const onBlocks = async (run: BlockRun): Promise<void> => {
      await turn()
      all.push(run)
    }
    const options = { ...SHA256, findsZeroes: true, onBlocks }
    await checksumImage(backend, image.length, options, contextWith())
    return all.flatMap((run) =>
      Array.from({ length: run.count }, (_, index) => ({
        ...run,
        offset: run.offset + index * run.size,
        count: 1,
      })),
    )
  }
  const asData = await told([{ start: 0, length: image.length, zero: false }])
  const asHole = await told([
    { start: 0, length: 64 * KiB, zero: false },
    { start: 64 * KiB, length: 128 * KiB, zero: true },
    { start: 192 * KiB, length: 100, zero: false },
  ])
  t.strictSame(asData, asHole)
  t.strictSame(
    asData.map(({ offset, size, zero }) => [offset, size, zero]),
    [
      [0, 64 * KiB, false],
      [64 * KiB, 64 * KiB, true],
      [128 * KiB, 64 * KiB, true],
      [192 * KiB, 100, false],
    ],
  )
})

t.test('cancel ends it while blocks are read, and nothing is read afterwards', async (t) => {
  const backend = new CountingBackend(pattern(8 * MiB))
  const context = contextWith()
  const reason = new Error('canceled')
  backend.before = async (offset) => {
    await turn()
    if (offset > MiB) context.abort.abort(reason)
  }
  await t.rejects(checksumImage(backend, 8 * MiB, SHA256, context), reason)
  t.equal(backend.readsNow, 0)
  t.ok(backend.bytesRead < 4 * MiB, `${backend.bytesRead}`)
  t.equal(context.buffers.counts.lent, 0)
  await t.rejects(checksumImage(backend, 8 * MiB, SHA256, context), reason)
})

t.test('cancel ends a large hole', async (t) => {
  const backend = new CountingBackend(Buffer.alloc(0))
  backend.map = [{ start: 0, length: 2 ** 43, zero: true }]
  const context = contextWith()
  setTimeout(() => context.abort.abort(new Error('canceled')), 20)
  await t.rejects(checksumImage(backend, 2 ** 43, SHA256, context), /canceled/)
  t.equal(context.buffers.counts.lent, 0)
})

t.test('errors of the storage, and of who takes the digests, end it', async (t) => {
  const backend = new CountingBackend(pattern(2 * MiB))
  backend.before = async (offset) => {
    await turn()
    if (offset >= MiB) throw new Error('bad sector')
  }
  const context = contextWith()
  await t.rejects(checksumImage(backend, 2 * MiB, SHA256, context), /bad sector/)
  t.equal(context.buffers.counts.lent, 0)
  const options = { ...SHA256, onBlocks: () => Promise.reject(new Error('client gone')) }
  const healthy = new CountingBackend(pattern(2 * MiB))
  await t.rejects(checksumImage(healthy, 2 * MiB, options, context), /client gone/)
  t.equal(context.buffers.counts.lent, 0)
  t.equal(healthy.readsNow, 0)
})

t.test('an image that became shorter is no valid image', async (t) => {
  const backend = new CountingBackend(pattern(MiB))
  const wanted = { code: 'ERR_IMAGE_TRUNCATED' }
  await t.rejects(checksumImage(backend, MiB + 1, SHA256, contextWith()), wanted)
})

t.test('nor is one that lost a hole at its end', async (t) => {
  const path = await imageFile(t.testdir(), 2 * MiB)
  const file = await openImage(t, path)
  const wanted = { code: 'ERR_IMAGE_TRUNCATED' }
  await t.rejects(checksumImage(file, 3 * MiB, SHA256, contextWith()), wanted)
})

t.test('devices with any sectors, and the page cache', async (t) => {
  const image = Buffer.concat([pattern(3 * MiB), Buffer.alloc(2 * MiB), pattern(MiB)])
  const check = async (t: Test, path: string): Promise<void> => {
    const backend = await openImage(t, path)
    await backend.pwrite(image, 0)
    for (const blockSize of [4096, MiB, 5 * MiB]) {
      for (const size of [image.length, image.length - 1, 4 * MiB + 513]) {
        const options = { algorithm: 'sha256', blockSize } as const
        const found = await checksumImage(backend, size, options, contextWith())
        t.equal(found, expected(image.subarray(0, size), blockSize), `${blockSize} ${size}`)
      }
    }
  }
  for (const sectorSize of [512, 4096]) {
    t.test(`sectors of ${sectorSize}`, { skip: await withoutLoopDevices() }, async (t) => {
      const { path } = await loopDevice(t, { size: image.length, sectorSize })
      await check(t, path)
    })
  }
  t.test('tmpfs', { skip: withoutTmpfs() }, async (t) => {
    await check(t, await imageFile(await tmpfsDirectory(t), image.length))
  })
})

t.test('all algorithms', async (t) => {
  for (const algorithm of DIGEST_ALGORITHMS) {
    const found = await checksumImage(
      new MemoryBackend(pattern(1000)),
      1000,
      { algorithm, blockSize: MiB },
      contextWith(),
    )
    t.match(found, /^([0-9a-f]{2})+$/, algorithm)
  }
})
