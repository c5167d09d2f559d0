/** Extended headers, which no server of Debian 12 has: scripted, byte by byte. */
import t, { type Test } from 'tap'
import type { Backend } from '../../../../daemon/backends/backend.js'
import {
  pack,
  scriptedServer,
  type ExportFacts,
  type NbdRequest,
  type Peer,
} from '../../../support/nbd-script.js'
import { collect, pattern } from '../images.js'
import { openExport, read } from './exports.js'

type Answer = (peer: Peer, request: NbdRequest) => void

const BASE = 'base:allocation'
const DEPTH = 'qemu:allocation-depth'
const TiB = 2 ** 40
const PAYLOAD_LENGTH = 1 << 5

const done = Buffer.alloc(0)
const data = pattern(1000)
const broken = (message: RegExp) => ({ code: 'ERR_NBD_PROTOCOL', message })

async function served(
  t: Test,
  answer: Answer,
  facts: ExportFacts = {},
): Promise<{ backend: Backend; seen: NbdRequest[]; options: number[] }> {
  const seen: NbdRequest[] = []
  const options: number[] = []
  const url = await scriptedServer(t, async (peer) => {
    options.push(...(await peer.handshake({ extended: true, ...facts })))
    for (;;) {
      const request = await peer.request()
      seen.push(request)
      answer(peer, request)
    }
  })
  return { backend: await openExport(t, url), seen, options }
}

const acknowledge: Answer = (peer, request) => peer.chunk(request, 1, 0, done)

t.test('they are asked for first, and bring structured replies', async (t) => {
  const { options } = await served(t, acknowledge, { contexts: [BASE] })
  t.strictSame(options, [11, 10, 7])
})

t.test('a server that refuses them is asked for structured replies', async (t) => {
  for (const reason of [0x80000001, 0x80000002, 0x80000003]) {
    const asked: number[] = []
    const url = await scriptedServer(t, async (peer) => {
      const reply = peer.reply.bind(peer)
      // Only the answer to this option differs from a tidy negotiation.
      peer.reply = (option, type, bytes) => reply(option, option === 11 ? reason : type, bytes)
      asked.push(...(await peer.handshake({ contexts: [BASE] })))
      for (;;) {
        const request = await peer.request()
        peer.hole(request, request.offset, request.length)
      }
    })
    const backend = await openExport(t, url)
    t.strictSame(await read(backend, 0, 10), Buffer.alloc(10))
    t.strictSame(asked, [11, 8, 10, 7])
  }
})

t.test('requests have their magic, and those with a payload say so', async (t) => {
  const { backend, seen } = await served(t, (peer, request) => {
    if (request.type === 0) peer.data(request, request.offset, data)
    else acknowledge(peer, request)
  })
  t.strictSame(await read(backend, 5000, 1000), data)
  await backend.pwrite(data, 7000)
  await backend.zero(0, 4096, { mayPunchHole: true })
  await backend.flush()
  t.ok(seen.every(({ magic }) => magic === 0x21e41c71))
  const [reading, writing, zeroing, flushing] = seen
  t.match(reading, { type: 0, flags: 0, offset: 5000, length: 1000 })
  t.match(writing, { type: 1, flags: PAYLOAD_LENGTH, offset: 7000, length: 1000 })
  t.strictSame(writing?.payload, data)
  t.match(zeroing, { type: 6, flags: 0, offset: 0, length: 4096 })
  t.match(flushing, { type: 3, flags: 0, length: 0 })
})

t.test('chunks in any order are put together', async (t) => {
  const { backend } = await served(t, (peer, request) => {
    peer.data(request, 900, data.subarray(900), false)
    peer.hole(request, 300, 600, false)
    peer.data(request, 0, data.subarray(0, 300), false)
    acknowledge(peer, request)
  })
  const expected = Buffer.from(data).fill(0, 300, 900)
  t.strictSame(await read(backend, 0, 1000), expected)
})

t.test('errors are those of the request', async (t) => {
  const { backend } = await served(t, (peer, request) =>
    peer.chunk(request, 1, 0x8001, pack('u32', 28, 'u16', 4, Buffer.from('full'))),
  )
  await t.rejects(backend.pwrite(data, 0), { code: 'ERR_STORAGE_FULL' })
  await t.rejects(backend.pwrite(data, 0), { code: 'ERR_STORAGE_FULL' }, 'the connection lives')
})

t.test('extents have 64 bits: an export of 8 TiB is a few questions', async (t) => {
  const size = 8 * TiB
  const { backend, seen } = await served(
    t,
    (peer, request) => {
      peer.status(request, 1, [[request.length, 3]], false)
      peer.status(request, 2, [[request.length, 0]])
    },
    { size, contexts: [BASE, DEPTH] },
  )
  t.strictSame(await collect(backend.extents(0, size, 'zero')), [
    { start: 0, length: size, zero: true, hole: true },
  ])
  t.ok(seen.length <= 64, `${seen.length} questions`)
})

t.test('extents may reach far behind the question, and values have 64 bits', async (t) => {
  const size = 8 * TiB
  const { backend, seen } = await served(
    t,
    (peer, request) => {
      peer.status(request, 1, [[size - request.offset, 2]], false)
      // Zero in the low half only: allocated in a layer, however odd its number.
      peer.status(request, 2, [
        [4096, 0],
        [size - request.offset - 4096, 2 ** 32],
      ])
    },
    { size, contexts: [BASE, DEPTH] },
  )
  t.strictSame(await collect(backend.extents(0, size, 'zero')), [
    { start: 0, length: 4096, zero: true, hole: true },
    { start: 4096, length: size - 4096, zero: true, hole: false },
  ])
  t.equal(seen.length, 1)
})

t.test('what makes no sense ends the connection with its reason', async (t) => {
  const header = (request: NbdRequest, offset: number, length: Buffer, type = 1): Buffer =>
    pack('u32', 0x6e8a278c, 'u16', 1, 'u16', type, request.cookie, 'u64', offset, length)
  const reads: [string, RegExp, Answer][] = [
    [
      'a simple reply',
      /simple headers nobody wanted/,
      (peer, got) => peer.simple(got, 5, Buffer.alloc(16)),
    ],
    [
      'a compact header',
      /structured headers nobody wanted/,
      (peer, { cookie }) =>
        peer.send('u32', 0x668e33ef, 'u16', 1, 'u16', 0, cookie, 'u32', 0, Buffer.alloc(12)),
    ],
    [
      'another offset',
      /offset of another request/,
      (peer, got) => peer.data({ ...got, offset: got.offset + 1 }, got.offset, data),
    ],
    [
      'a length of 2^32 and some',
      /outside/,
      (peer, got) =>
        peer.send(header(got, 0, pack('u64', 2 ** 32 + 1008)), pack('u64', 0), Buffer.alloc(2000)),
    ],
    [
      'a length of 2^64 - 1',
      /outside/,
      (peer, got) =>
        peer.send(header(got, 0, Buffer.alloc(8, 0xff)), pack('u64', 0), Buffer.alloc(2000)),
    ],
    [
      'an empty chunk of 2^32 bytes',
      /not the last/,
      (peer, got) => peer.send(header(got, 0, pack('u64', 2 ** 32), 0)),
    ],
    [
      'an error of 2^32 and some bytes',
      /wrong length/,
      (peer, got) => peer.send(header(got, 0, pack('u64', 2 ** 32 + 6), 0x8001), Buffer.alloc(40)),
    ],
  ]
  for (const [name, reason, answer] of reads) {
    const { backend } = await served(t, answer)
    await t.rejects(read(backend, 0, 1000), broken(reason), name)
    t.equal(backend.isGone, true, name)
  }
})

t.test('extents that make no sense fail', async (t) => {
  const chunk =
    (type: number, ...payload: Parameters<typeof pack>): Answer =>
    (peer, got) =>
      peer.chunk(got, 1, type, pack(...payload))
  const pair = pack('u64', 1000, 'u64', 0)
  const wrong: [string, RegExp, Answer][] = [
    ['the compact type', /unknown type 5/, chunk(5, 'u32', 1, 'u32', 1000, 'u32', 0)],
    ['another count', /number of extents/, chunk(6, 'u32', 1, 'u32', 2, pair)],
    ['no extents', /wrong length/, chunk(6, 'u32', 1, 'u32', 0)],
    ['half an extent', /wrong length/, chunk(6, 'u32', 1, 'u32', 0, pair, 'u64', 1)],
    ['an empty one', /empty extent/, chunk(6, 'u32', 1, 'u32', 1, 'u64', 0, 'u64', 0)],
    ['a giant', /larger than/, chunk(6, 'u32', 1, 'u32', 1, Buffer.alloc(8, 0xff), 'u64', 0)],
    ['a stranger', /unknown context/, chunk(6, 'u32', 9, 'u32', 1, pair)],
  ]
  for (const [name, reason, answer] of wrong) {
    const { backend } = await served(t, answer, { contexts: [BASE] })
    await t.rejects(collect(backend.extents(0, 1000, 'zero')), broken(reason), name)
  }
  const { backend } = await served(t, chunk(6, 'u32', 1, 'u32', 0, pair), { contexts: [BASE] })
  t.equal((await collect(backend.extents(0, 1000, 'zero'))).length, 1, 'the count may be left out')
})
