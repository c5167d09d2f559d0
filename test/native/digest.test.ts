import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import { allocateAligned, DIGEST_ALGORITHMS, Digest, hashBlock } from '../../native/index.js'
import { createFile, diskDirectory, memoryDirectory, MiB, open, openDirect } from './files.js'

const hex = async (...args: Parameters<typeof hashBlock>) =>
  (await hashBlock(...args)).toString('hex')

t.test('there are the twelve algorithms, sorted', async (t) => {
  t.equal(DIGEST_ALGORITHMS.length, 12)
  t.strictSame([...DIGEST_ALGORITHMS].sort(), DIGEST_ALGORITHMS)
})

t.test('all but blake2b are those of node:crypto', async (t) => {
  for (const block of [Buffer.alloc(0), Buffer.from('abc'), Buffer.alloc(MiB + 1, 'x')]) {
    for (const name of DIGEST_ALGORITHMS.filter((one) => one !== 'blake2b')) {
      const theirs = createHash(name.replace('_', '-').replace('blake2s', 'blake2s256'))
      t.equal(await hex(name, block), theirs.update(block).digest('hex'), name)
    }
  }
})

t.test('blake2b has a length of 32 bytes from the start', async (t) => {
  const digest = (block: Buffer) => hex('blake2b', block)
  t.equal(
    await digest(Buffer.alloc(0)),
    '0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8',
  )
  t.equal(
    await digest(Buffer.alloc(MiB)),
    'c74860dd7480e7f4b5ae705f9137e90a0aa0bc67d6e90cf8078dd6697dbdb6ad',
  )
  t.equal(
    await digest(Buffer.alloc(4 * MiB)),
    '4b78491340f5f499c8cb365e807455b47d2c05bc362def5ab9a2505a142710f4',
  )
  t.equal(
    await digest(Buffer.alloc(MiB, 1)),
    '7cceb0305d03f6c6774dd39fb54c8ad9888fde64efff59636c773a4729ea87d0',
  )
})

t.test('pieces make the digest of the whole, wherever they are hashed', async (t) => {
  for (const name of DIGEST_ALGORITHMS) {
    const digest = new Digest(name)
    digest.updateNow(Buffer.from('one'))
    await digest.update(Buffer.alloc(0))
    await digest.update(Buffer.from('two'))
    digest.updateNow(Buffer.from('three'))
    t.strictSame(digest.finish(), await hashBlock(name, Buffer.from('onetwothree')), name)
  }
})

t.test('many at a time', async (t) => {
  const blocks = Array.from({ length: 64 }, (_, index) => Buffer.alloc(100_000 + index, index))
  const digests = await Promise.all(blocks.map((block) => hex('sha256', block)))
  t.strictSame(
    digests,
    blocks.map((block) => createHash('sha256').update(block).digest('hex')),
  )
})

t.test('what is read from a descriptor, through any buffer', async (t) => {
  const content = randomBytes(3 * MiB + 1001)
  for (const directory of [memoryDirectory(t), diskDirectory(t)]) {
    const file = createFile(join(directory, 'image'), content.length, [
      { offset: 0, data: content },
    ])
    for (const fd of [await open(t, file), await openDirect(t, file)]) {
      if (fd === undefined) continue
      for (const buffer of [4096, 64 * 1024, 256 * 1024, 4 * MiB].map(allocateAligned)) {
        for (const [offset, size] of [
          [0, content.length],
          [4096, 2 * MiB],
          [MiB, 999_999],
          [3 * MiB, 1001],
          [3 * MiB, 4 * MiB], // behind the end
          [8 * MiB, 1],
          [0, 0],
        ] as const) {
          const digest = new Digest('blake2b')
          const expected = content.subarray(offset, offset + size)
          t.equal(await digest.read(fd, buffer, offset, size), expected.length)
          t.strictSame(digest.finish(), await hashBlock('blake2b', expected), `${offset} ${size}`)
        }
      }
    }
  }
})

t.test('a descriptor that cannot be read', async (t) => {
  const digest = new Digest('md5')
  const failure = { code: 'EBADF', syscall: 'pread' }
  await t.rejects(digest.read(9999, Buffer.alloc(10), 0, 10), failure)
  t.throws(() => digest.read(0, Buffer.alloc(0), 0, 10), RangeError)
  t.throws(() => digest.read(0, Buffer.alloc(1), -1, 10), RangeError)
  const data = [{ offset: 0, data: randomBytes(MiB) }]
  const file = createFile(join(diskDirectory(t), 'image'), MiB, data)
  const direct = await openDirect(t, file)
  if (direct === undefined) return
  await t.rejects(digest.read(direct, allocateAligned(4096), 1, 4096), { code: 'EINVAL' })
})

t.test('a digest in use, or finished, takes nothing', async (t) => {
  const digest = new Digest('sha256')
  const update = digest.update(Buffer.alloc(MiB))
  for (const call of [
    () => digest.update(Buffer.from('x')),
    () => digest.updateNow(Buffer.from('x')),
    () => digest.finish(),
  ]) {
    t.throws(call, /being updated/)
  }
  await update
  t.strictSame(digest.finish(), await hashBlock('sha256', Buffer.alloc(MiB)))
  t.throws(() => digest.finish(), /finished/)
  t.throws(() => digest.updateNow(Buffer.from('x')), /finished/)
})

t.test('what is no algorithm and no buffer is refused', async (t) => {
  for (const name of ['', 'BLAKE2b', 'blake2b512', 'shake_128', 'sha512_256', 'sha256 ']) {
    t.throws(() => new Digest(name as 'md5'), RangeError, name)
  }
  t.throws(() => new Digest(1 as unknown as 'md5'), TypeError)
  t.throws(() => new Digest('md5').updateNow('text' as unknown as Buffer), TypeError)
})

t.test('a digest that nobody holds any more ends after its update', async (t) => {
  const updates = Array.from({ length: 200 }, () => new Digest('sha1').update(Buffer.alloc(10_000)))
  await Promise.all(updates)
  t.pass()
})
