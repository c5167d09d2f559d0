/** What is asked for beside the change itself: stable at once (FUA), fast or not at all (FAST_ZERO). */
import t, { type Test } from 'tap'
import { MiB } from '../../../../core/units.js'
import type { Backend } from '../../../../daemon/backends/backend.js'
import { ImageStates } from '../../../../daemon/backends/image-states.js'
import { writeRange } from '../../../../daemon/operations/write.js'
import { BufferPool } from '../../../../core/buffer-pool.js'
import { scriptedServer, USUAL_FLAGS, type NbdRequest } from '../../../support/nbd-script.js'
import { openExport } from './exports.js'

const Flag = { SEND_FUA: 1 << 3, MULTI: 1 << 8, SEND_FAST_ZERO: 1 << 11 }
const WRITE = 1
const FLUSH = 3
const WRITE_ZEROES = 6
const FUA = 1
const NO_HOLE = 2
const FAST = 16
const NOT_SUPPORTED = 95

interface Served {
  readonly backend: Backend
  readonly open: () => Promise<Backend>
  /** Names of what the server was told, and how. */
  readonly told: () => string[]
}

async function served(
  t: Test,
  flags: number,
  errno: (request: NbdRequest) => number = () => 0,
  minimum = 1,
): Promise<Served> {
  let seen: NbdRequest[] = []
  const size = 256 * MiB
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake({
      size,
      flags: USUAL_FLAGS | flags,
      blockSizes: [minimum, 4096, 32 * MiB],
    })
    for (;;) {
      const request = await peer.request()
      if (request.type === 2) return
      seen.push(request)
      if (request.type === 0) peer.hole(request, request.offset, request.length)
      else peer.simple(request, errno(request))
    }
  })
  const images = new ImageStates()
  const open = (): Promise<Backend> => openExport(t, url, { images })
  const told = (): string[] => {
    const names = seen.map(({ type, flags, length }) => {
      if (type === FLUSH) return 'flush'
      const name = type === WRITE ? 'write' : type === WRITE_ZEROES ? 'zero' : 'read'
      const size = length >= MiB ? `${length / MiB}M` : `${length}`
      const words = [
        [FUA, 'FUA'],
        [NO_HOLE, 'NO_HOLE'],
        [FAST, 'FAST'],
      ] as const
      const said = words.filter(([flag]) => (flags & flag) !== 0).map(([, word]) => word)
      return [name, size, ...said].join(' ')
    })
    seen = []
    return names
  }
  return { backend: await open(), open, told }
}

const put = async (backend: Backend, offset: number, size: number): Promise<void> => {
  let left = size
  const source = {
    read: (target: Buffer) => {
      const count = Math.min(left, target.length)
      left -= count
      return Promise.resolve(count)
    },
  }
  await writeRange(backend, offset, size, source, {
    signal: new AbortController().signal,
    onProgress: () => undefined,
    buffers: new BufferPool({ bufferSize: MiB, maxBytes: 16 * MiB, waitTimeoutMs: 1000 }),
    flush: () => backend.flush(),
  })
}

t.test('a small upload is written and stable in one request, once a flush was seen', async (t) => {
  const { backend, told } = await served(t, Flag.SEND_FUA)
  await put(backend, 0, 4096)
  t.strictSame(told(), ['write 4096', 'flush'], 'before that another process may have written')
  await put(backend, 8192, 4096)
  t.strictSame(told(), ['write 4096 FUA'])
  await put(backend, 0, 2 * MiB)
  const pieces = ['write 1M', ...Array.from({ length: 2 }, () => 'write 524288')]
  t.strictSame(told(), [...pieces, 'flush'], 'pieces are flushed together')
  await put(backend, 100, 5)
  t.strictSame(told(), ['write 5 FUA'])
  await backend.flush()
  t.strictSame(told(), ['flush'], 'who asks for a flush gets one')
})

t.test('a flush covers what was written without one', async (t) => {
  const { backend, open, told } = await served(t, Flag.SEND_FUA)
  await backend.flush()
  await backend.pwrite(Buffer.alloc(10), 0)
  await put(backend, 4096, 10)
  t.strictSame(told(), ['flush', 'write 10', 'write 10', 'flush'])
  const other = await open()
  await other.pwrite(Buffer.alloc(10), 0)
  await put(backend, 4096, 10)
  t.strictSame(told(), ['write 10', 'write 10', 'flush', 'flush'], 'of the other connection, too')
  await put(backend, 4096, 10)
  t.strictSame(told(), ['write 10 FUA'])
})

t.test('without FUA, and for parts of blocks, there is a flush', async (t) => {
  const plain = await served(t, 0)
  await plain.backend.flush()
  await put(plain.backend, 0, 4096)
  t.strictSame(plain.told(), ['flush', 'write 4096', 'flush'])
  const blocks = await served(t, Flag.SEND_FUA, undefined, 4096)
  await blocks.backend.flush()
  await put(blocks.backend, 4096, 8192)
  await put(blocks.backend, 100, 10)
  t.strictSame(blocks.told(), ['flush', 'write 8192 FUA', 'read 4096', 'write 4096', 'flush'])
})

t.test('a FUA write that fails is a failed upload', async (t) => {
  const isFua = ({ flags }: NbdRequest): number => ((flags & FUA) === 0 ? 0 : 5)
  const { backend, told } = await served(t, Flag.SEND_FUA, isFua)
  await backend.flush()
  await t.rejects(put(backend, 0, 10), { code: 'ERR_STORAGE' })
  t.strictSame(told(), ['flush', 'write 10 FUA'])
})

t.test('zeroing is asked to be fast', async (t) => {
  const { backend, told } = await served(t, Flag.SEND_FAST_ZERO)
  await backend.zero(0, 100 * MiB, { mayPunchHole: true })
  await backend.zero(0, 100 * MiB, { mayPunchHole: false })
  t.strictSame(told(), ['zero 100M FAST', 'zero 100M NO_HOLE FAST'])
})

t.test('where it is slow it is done in pieces, and the server not asked again', async (t) => {
  const slow = ({ flags }: NbdRequest): number => ((flags & FAST) === 0 ? 0 : NOT_SUPPORTED)
  const { backend, open, told } = await served(t, Flag.SEND_FAST_ZERO, slow)
  await backend.zero(0, 20 * MiB, { mayPunchHole: false })
  const pieces = ['zero 8M NO_HOLE', 'zero 8M NO_HOLE', 'zero 4M NO_HOLE']
  t.strictSame(told(), ['zero 20M NO_HOLE FAST', ...pieces])
  const other = await open()
  await other.zero(0, 20 * MiB, { mayPunchHole: false })
  t.strictSame(told(), pieces)
  await other.zero(0, 20 * MiB, { mayPunchHole: true })
  t.match(told()[0], 'zero 20M FAST', 'a hole may be fast where allocated zeroes are not')
})

t.test('where it cannot be done zeroes are written', async (t) => {
  const never = ({ type }: NbdRequest): number => (type === WRITE_ZEROES ? NOT_SUPPORTED : 0)
  const { backend, told } = await served(t, Flag.SEND_FAST_ZERO, never)
  await backend.zero(0, 3 * MiB, { mayPunchHole: true })
  const refused = ['zero 3M FAST', 'zero 3M']
  t.strictSame(told(), [...refused, 'write 1M', 'write 1M', 'write 1M'])
})

t.test('pieces of zeroes end with the request', async (t) => {
  const abort = new AbortController()
  const slow = ({ flags }: NbdRequest): number => {
    if ((flags & FAST) === 0) abort.abort(new Error('enough'))
    return (flags & FAST) === 0 ? 0 : NOT_SUPPORTED
  }
  const { backend, told } = await served(t, Flag.SEND_FAST_ZERO, slow)
  const zeroing = backend.zero(0, 64 * MiB, { mayPunchHole: true, signal: abort.signal })
  await t.rejects(zeroing, { message: 'enough' })
  t.strictSame(told(), ['zero 64M FAST', 'zero 8M'])
})
