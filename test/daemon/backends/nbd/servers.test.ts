/** Real servers: qemu-nbd and nbdkit in the moods they can be put into. */
import { writeFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Backend } from '../../../../daemon/backends/backend.js'
import { ImageStates } from '../../../../daemon/backends/image-states.js'
import { KiB, MiB } from '../../../../core/units.js'
import { nbdkit, qemuNbd } from '../../../support/nbd.js'
import { without } from '../../../support/tools.js'
import { collect, difference, pattern, random, readAll } from '../images.js'
import { openExport, read, type Options } from './exports.js'

const skipQemu = without('qemu-nbd')
const skipNbdkit = without('nbdkit')

/** Random reads, writes and zeroes against a copy in memory. */
async function exercise(
  t: Test,
  backend: Backend,
  { seed, steps = 150, allZero = false }: { seed: number; steps?: number; allZero?: boolean },
): Promise<void> {
  const next = random(seed)
  const size = await backend.size()
  const model = allZero ? Buffer.alloc(size) : await readAll(backend)
  let isRight = true
  for (let step = 0; step < steps; step++) {
    const offset = next(4) === 0 ? 512 * next(size / 512) : next(size)
    const length = Math.min(1 + next(next(3) === 0 ? 2 * MiB : 9000), size - offset)
    const kind = next(3)
    if (kind === 0) {
      isRight &&= (await read(backend, offset, length)).equals(
        model.subarray(offset, offset + length),
      )
    } else if (kind === 1) {
      const bytes = pattern(length, step)
      await backend.pwrite(bytes, offset)
      bytes.copy(model, offset)
    } else {
      await backend.zero(offset, length, { mayPunchHole: next(2) === 0 })
      model.fill(0, offset, offset + length)
    }
  }
  await backend.flush()
  t.ok(isRight, 'reads on the way')
  t.equal(difference(await readAll(backend), model), undefined)
  let end = 0
  for (const { start, length, zero } of await collect(backend.extents(0, size, 'zero'))) {
    if (start !== end) t.fail(`an extent at ${start} instead of ${end}`)
    end += length
    if (zero && !model.subarray(start, end).equals(Buffer.alloc(length))) {
      t.fail(`data at ${start} is told to be zero`)
    }
  }
  t.equal(end, size, 'extents cover the image')
}

t.test('qemu-nbd: random work on a raw file', { skip: skipQemu }, async (t) => {
  const file = join(t.testdir({}), 'image')
  writeFileSync(file, pattern(6 * MiB))
  const { url } = await qemuNbd(t, ['-f', 'raw', file])
  const backend = await openExport(t, url)
  t.match(backend, { name: 'nbd', blockSize: 1, maxReaders: 8, maxWriters: 8, canGrow: false })
  await exercise(t, backend, { seed: 1 })
  await backend.close()
  t.equal(readFileSync(file).length, 6 * MiB)
})

t.test('requests are split to what the server and we take', { skip: skipQemu }, async (t) => {
  const file = join(t.testdir({}), 'image')
  writeFileSync(file, Buffer.alloc(40 * MiB))
  const { url } = await qemuNbd(t, ['-f', 'raw', file])
  for (const maxRequest of [32 * MiB, 1000 * KiB, 5000]) {
    const backend = await openExport(t, url, { maxRequest })
    const size = maxRequest === 5000 ? 4 * MiB : 40 * MiB
    const bytes = pattern(size, maxRequest)
    await backend.pwrite(bytes, 0)
    t.equal(difference(await read(backend, 0, size), bytes), undefined)
    await backend.close()
  }
})

const nbdkitModes: [string, string[], Options?][] = [
  ['in memory', ['memory', '6M']],
  ['without structured replies', ['--no-sr', 'memory', '6M']],
  [
    'with blocks of 4096 bytes',
    [
      ...['--filter=blocksize-policy', 'memory', '6M', 'blocksize-minimum=4096'],
      ...['blocksize-preferred=4096', 'blocksize-maximum=65536', 'blocksize-error-policy=error'],
    ],
  ],
  [
    'with blocks of 512 bytes and small requests',
    [
      ...['--filter=blocksize-policy', 'memory', '6M', 'blocksize-minimum=512'],
      ...['blocksize-maximum=512K', 'blocksize-error-policy=error'],
    ],
    { maxRequest: 100_000 },
  ],
  ['without zeroing', ['--filter=nozero', 'memory', '6M']],
  ['where zeroing is refused', ['--filter=nozero', 'memory', '6M', 'zeromode=notrim']],
  ['without extents', ['--filter=noextents', 'memory', '6M']],
  ['one request at a time', ['--filter=noparallel', 'memory', '6M', 'serialize=requests']],
]

for (const [name, args, options] of nbdkitModes) {
  t.test(`nbdkit ${name}: random work`, { skip: skipNbdkit }, async (t) => {
    const { url } = await nbdkit(t, args)
    await exercise(t, await openExport(t, url, options), { seed: 2, steps: 80, allZero: true })
  })
}

t.test('several connections change one block of 4096 bytes', { skip: skipNbdkit }, async (t) => {
  const { url } = await nbdkit(t, [
    ...['--filter=blocksize-policy', 'memory', '64K', 'blocksize-minimum=4096'],
    'blocksize-error-policy=error',
  ])
  const images = new ImageStates()
  const all = await Promise.all([1, 2, 3, 4].map(() => openExport(t, url, { images })))
  const expected = pattern(4096)
  await Promise.all(
    Array.from({ length: 64 }, (_, index) => {
      const part = expected.subarray(index * 64, (index + 1) * 64)
      return all[index % 4]!.pwrite(part, 8192 + index * 64)
    }),
  )
  t.equal(difference(await read(all[0]!, 8192, 4096), expected), undefined)
})

t.test('an image whose size is no multiple of its blocks', { skip: skipNbdkit }, async (t) => {
  const { url } = await nbdkit(t, ['memory', '100001'])
  const backend = await openExport(t, url)
  t.equal(await backend.size(), 100_001)
  await backend.pwrite(pattern(10), 99_991)
  t.strictSame(await read(backend, 99_991, 100), pattern(10))
  t.equal((await read(backend, 100_001, 10)).length, 0)
  t.equal((await read(backend, 10 ** 9, 10)).length, 0)
  await t.rejects(backend.pwrite(pattern(10), 99_992), { code: 'ERR_BEYOND_END' })
  await t.rejects(backend.zero(0, 100_002, { mayPunchHole: true }), { code: 'ERR_BEYOND_END' })
})

t.test('errors of the server, which stays usable', { skip: skipNbdkit }, async (t) => {
  const { url } = await nbdkit(t, [
    ...['eval', 'get_size=echo 65536', 'pread=echo EIO bad >&2; exit 1'],
    ...[
      'pwrite=cat >/dev/null; echo ENOSPC full >&2; exit 1',
      'zero=echo EOPNOTSUPP no >&2; exit 1',
    ],
    ...['flush=echo EIO bad >&2; exit 1', 'can_flush=exit 0', 'can_zero=exit 0'],
  ])
  const backend = await openExport(t, url)
  for (let round = 0; round < 2; round++) {
    await t.rejects(read(backend, 0, 10), { code: 'ERR_STORAGE', statusCode: 500 })
    await t.rejects(backend.pwrite(pattern(10), 0), { code: 'ERR_STORAGE_FULL', statusCode: 507 })
    await t.rejects(backend.zero(0, 10, { mayPunchHole: false }), { code: 'ERR_STORAGE_FULL' })
    await t.rejects(backend.flush(), { code: 'ERR_STORAGE' })
  }
  t.equal(backend.isGone, false)
})

t.test('slow reads end at the deadline', { skip: skipNbdkit }, async (t) => {
  const { url } = await nbdkit(t, ['--filter=delay', 'memory', '1M', 'delay-read=300ms'])
  const backend = await openExport(t, url)
  t.equal((await read(backend, 0, 100)).length, 100)
  const impatient = await openExport(t, url, { operationTimeoutMs: 100 })
  await t.rejects(read(impatient, 0, 10), { code: 'ERR_STORAGE_TIMEOUT', statusCode: 504 })
})

t.test('216: an export that is read-only', { skip: skipNbdkit }, async (t) => {
  const { url } = await nbdkit(t, ['--readonly', 'pattern', '64K'])
  const backend = await openExport(t, url)
  t.equal((await read(backend, 0, 8)).length, 8)
  for (const change of [
    backend.pwrite(pattern(1), 0),
    backend.zero(0, 1, { mayPunchHole: true }),
  ]) {
    await t.rejects(change, { code: 'ERR_STORAGE_READ_ONLY', statusCode: 500 })
  }
  const memory = await nbdkit(t, ['memory', '64K'])
  const reader = await openExport(t, memory.url, { writable: false })
  await t.rejects(reader.pwrite(pattern(1), 0), { code: 'ERR_STORAGE_READ_ONLY' })
})

t.test('an empty export', { skip: skipNbdkit }, async (t) => {
  const { url } = await nbdkit(t, ['memory', '0'])
  const backend = await openExport(t, url)
  t.equal(await backend.size(), 0)
  t.equal((await read(backend, 0, 10)).length, 0)
})
