import { createHash } from 'node:crypto'
import t from 'tap'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import { DigestingSink, DigestingSource } from '../../../daemon/operations/digesting.js'
import { readRange } from '../../../daemon/operations/read.js'
import { writeRange } from '../../../daemon/operations/write.js'
import { pattern } from '../backends/images.js'
import { CollectingSink, contextWith, KiB, PiecesSource } from './peers.js'

const hashOf = (name: string, bytes: Buffer) => createHash(name).update(bytes).digest()

t.test('the digests of a body that is written', async (t) => {
  for (const size of [0, 1, 16 * KiB, 100_001]) {
    for (const count of [1, 4]) {
      const body = pattern(size)
      const backend = new MemoryBackend(Buffer.alloc(0), { canGrow: true })
      const source = new DigestingSource(new PiecesSource(body, 700), ['sha256', 'sha512'])
      await writeRange(backend, 0, size, source, contextWith({ count }))
      t.strictSame(source.finish(), [hashOf('sha256', body), hashOf('sha512', body)], `${size}`)
      t.strictSame(backend.data, body)
    }
  }
})

t.test('the digest of a body that is sent', async (t) => {
  const image = pattern(100_001)
  for (const [offset, size] of [
    [0, 100_001],
    [511, 70_000],
    [5, 1],
  ] as const) {
    const collected = new CollectingSink()
    const sink = new DigestingSink(collected, 'sha256')
    const backend = new MemoryBackend(image, { blockSize: 512 })
    await readRange(backend, offset, size, sink, contextWith())
    const sent = image.subarray(offset, offset + size)
    t.strictSame(collected.bytes, sent)
    t.strictSame(sink.finish(), hashOf('sha256', sent))
  }
})

t.test('errors of the sink and of the source pass', async (t) => {
  const failing = { write: () => Promise.reject(new Error('client gone')) }
  const sink = new DigestingSink(failing, 'sha256')
  await t.rejects(sink.write(Buffer.from('x')), /client gone/)
  const source = new DigestingSource(new PiecesSource(Buffer.alloc(0), 1, new Error('cut')), [
    'md5',
  ])
  await t.rejects(source.read(Buffer.alloc(10)), /cut/)
})
