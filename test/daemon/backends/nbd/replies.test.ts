/** Conformance 207-209 and what a server may do wrong with a reply: scripted, byte by byte. */
import t, { type Test } from 'tap'
import type { Backend } from '../../../../daemon/backends/backend.js'
import { StorageGoneError } from '../../../../daemon/backends/errors.js'
import {
  pack,
  scriptedServer,
  type ExportFacts,
  type NbdRequest,
  type Peer,
} from '../../../support/nbd-script.js'
import { until, within } from '../../../support/wait.js'
import { pattern } from '../images.js'
import { openExport, read, type Options } from './exports.js'

type Answer = (peer: Peer, request: NbdRequest) => void | Promise<void>

const IO = 5

/** Answers each request with the next answer, and the last for ever. */
async function served(
  t: Test,
  answers: Answer[],
  facts: ExportFacts = {},
  options: Options = {},
): Promise<Backend> {
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake(facts)
    for (let index = 0; ; index++) {
      const request = await peer.request()
      await answers[Math.min(index, answers.length - 1)]!(peer, request)
    }
  })
  return openExport(t, url, options)
}

const data = pattern(1000)

t.test('208: chunks in any order are put together', async (t) => {
  const backend = await served(t, [
    (peer, request) => {
      peer.data(request, 900, data.subarray(900), false)
      peer.hole(request, 300, 500, false)
      peer.data(request, 0, data.subarray(0, 300), false)
      peer.data(request, 800, data.subarray(800, 900), false)
      peer.chunk(request, 1, 0, Buffer.alloc(0))
    },
    (peer, request) => peer.hole(request, 0, 1000),
  ])
  const expected = Buffer.from(data)
  expected.fill(0, 300, 800)
  t.strictSame(await read(backend, 0, 1000), expected)
  t.strictSame(await read(backend, 0, 1000), Buffer.alloc(1000))
})

t.test('replies may come in any order and in any pieces', async (t) => {
  const requests: NbdRequest[] = []
  const backend = await served(t, [
    async (peer, request) => {
      requests.push(request)
      if (requests.length < 4) return
      for (const { cookie, offset, length } of requests.reverse()) {
        const body = pack('u64', offset, Buffer.alloc(length, offset / 1000))
        const bytes = pack('u32', 0x668e33ef, 'u16', 1, 'u16', 1, cookie, 'u32', body.length, body)
        for (let at = 0; at < bytes.length; at += 7) peer.send(bytes.subarray(at, at + 7))
        await new Promise(setImmediate)
      }
    },
  ])
  const all = await Promise.all([1, 2, 3, 4].map((index) => read(backend, index * 1000, 1000)))
  t.strictSame(
    all.map((bytes) => bytes.every((byte) => byte === bytes[0]) && bytes[0]),
    [1, 2, 3, 4],
  )
})

t.test('large reads but the first are asked for in pieces, all in flight at once', async (t) => {
  const requests: NbdRequest[] = []
  const backend = await served(t, [
    (peer, request) => {
      requests.push(request)
      // Whoever asked for one piece at a time would wait for ever.
      if (![1, 3].includes(requests.length)) return
      for (const one of requests.slice(requests.length === 1 ? 0 : 1)) {
        peer.data(one, one.offset, Buffer.alloc(one.length, 1))
      }
    },
  ])
  for (let round = 0; round < 2; round++) {
    const bytes = await read(backend, 0, 1024 * 1024)
    t.ok(bytes.equals(Buffer.alloc(1024 * 1024, 1)))
  }
  t.strictSame(
    requests.map(({ offset, length }) => [offset, length]),
    [[0, 1024 * 1024], ...[0, 1].map((index) => [index * 512 * 1024, 512 * 1024])],
  )
})

t.test('data in crumbs is refused', async (t) => {
  const backend = await served(t, [
    (peer, { cookie, offset, length }) => {
      const chunks: Buffer[] = []
      // Every second byte, from the back: nothing that came before is a neighbour.
      for (let at = length - 2; at >= 0; at -= 2) {
        chunks.push(
          pack(
            'u32',
            0x668e33ef,
            'u16',
            0,
            'u16',
            1,
            cookie,
            'u32',
            9,
            'u64',
            offset + at,
            Buffer.alloc(1),
          ),
        )
      }
      peer.send(...chunks)
    },
  ])
  await t.rejects(read(backend, 0, 100_000), { code: 'ERR_NBD_PROTOCOL', message: /crumbs/ })
})

t.test('not more than some requests are in flight, however small they must be', async (t) => {
  let waiting: [Peer, NbdRequest][] = []
  let most = 0
  const backend = await served(
    t,
    [
      (peer, request) => {
        waiting.push([peer, request])
        most = Math.max(most, waiting.length)
        setImmediate(() => {
          for (const [to, one] of waiting) to.hole(one, one.offset, one.length)
          waiting = []
        })
      },
    ],
    { blockSizes: [1, 4096, 4096] },
  )
  t.ok((await read(backend, 0, 1024 * 1024)).equals(Buffer.alloc(1024 * 1024)))
  t.ok(most > 1 && most <= 16, `${most}`)
})

t.test('a violation ends the connection with its reason', async (t) => {
  const violations: [string, RegExp, Answer][] = [
    ['wrong magic', /wrong magic/, (peer) => peer.send(Buffer.alloc(20, 1))],
    [
      'wrong cookie',
      /nobody made/,
      (peer) => peer.hole({ ...none, cookie: Buffer.alloc(8) }, 0, 1),
    ],
    [
      'other half of the cookie',
      /nobody made/,
      (peer, { cookie }) => {
        const other = Buffer.from(cookie)
        other[0] = ~other[0]!
        peer.hole({ ...none, cookie: other }, 0, 1000)
      },
    ],
    ['truncated', /all of the data/, (peer, got) => peer.data(got, 0, data.subarray(1))],
    ['nothing', /all of the data/, (peer, got) => peer.chunk(got, 1, 0, Buffer.alloc(0))],
    ['overlong', /outside/, (peer, got) => peer.data(got, 0, Buffer.alloc(1001))],
    [
      'huge',
      /outside/,
      (peer, got) =>
        peer.send('u32', 0x668e33ef, 'u16', 1, 'u16', 1, got.cookie, 'u32', 2 ** 32 - 1, 'u64', 0),
    ],
    ['before', /outside/, (peer, got) => peer.data({ ...got }, 2 ** 50, data)],
    ['hole beyond', /outside/, (peer, got) => peer.hole(got, 999, 2)],
    [
      'overlap',
      /overlaps/,
      (peer, got) => {
        peer.data(got, 0, data.subarray(0, 501), false)
        peer.data(got, 500, data.subarray(500))
      },
    ],
    ['empty data', /without data/, (peer, got) => peer.chunk(got, 1, 1, pack('u64', 0))],
    ['empty hole', /empty hole/, (peer, got) => peer.hole(got, 0, 0)],
    ['hole of 11 bytes', /wrong length/, (peer, got) => peer.chunk(got, 1, 2, Buffer.alloc(11))],
    ['unknown chunk', /unknown type 77/, (peer, got) => peer.chunk(got, 1, 77, Buffer.alloc(0))],
    ['NONE not last', /not the last/, (peer, got) => peer.chunk(got, 0, 0, Buffer.alloc(0))],
    ['NONE with data', /not the last/, (peer, got) => peer.chunk(got, 1, 0, Buffer.alloc(1))],
    ['extents', /nobody asked/, (peer, got) => peer.status(got, 1, [[1000, 0]])],
    ['simple', /simple reply/, (peer, got) => peer.simple(got, 0, data)],
    [
      'error 0',
      /without an error/,
      (peer, got) => peer.chunk(got, 1, 0x8001, pack('u32', 0, 'u16', 0)),
    ],
    [
      'error not last',
      /not the last/,
      (peer, got) => peer.chunk(got, 0, 0x8001, pack('u32', IO, 'u16', 0)),
    ],
    [
      'error of 5 bytes',
      /wrong length/,
      (peer, got) => peer.chunk(got, 1, 0x8001, Buffer.alloc(5)),
    ],
    [
      'text too long',
      /too long/,
      (peer, got) => peer.chunk(got, 1, 0x8001, pack('u32', IO, 'u16', 1)),
    ],
    [
      'error too long',
      /wrong length/,
      (peer, got) => peer.chunk(got, 1, 0x8001, Buffer.alloc(5000)),
    ],
    [
      'error elsewhere',
      /outside/,
      (peer, got) => peer.chunk(got, 1, 0x8002, pack('u32', IO, 'u16', 0, 'u64', 1000)),
    ],
    [
      'error nowhere',
      /offset/,
      (peer, got) => peer.chunk(got, 1, 0x8002, pack('u32', IO, 'u16', 0)),
    ],
  ]
  for (const [name, message, answer] of violations) {
    const backend = await served(t, [answer])
    const expected = { code: 'ERR_NBD_PROTOCOL', statusCode: 500, message }
    await t.rejects(read(backend, 0, 1000), expected, name)
    t.equal(backend.isGone, true)
    await t.rejects(read(backend, 0, 1000), expected, 'for good')
  }
})

const none = { magic: 0, flags: 0, type: 0, offset: 0, length: 0, payload: Buffer.alloc(0) }

t.test('a second reply to a request is one too many', async (t) => {
  const backend = await served(t, [
    (peer, request) => {
      peer.hole(request, 0, 10)
      peer.hole(request, 0, 10)
    },
  ])
  t.strictSame(await read(backend, 0, 10), Buffer.alloc(10))
  await t.rejects(read(backend, 0, 10), { code: 'ERR_NBD_PROTOCOL', message: /nobody made/ })
})

t.test('a structured reply nobody wanted is refused', async (t) => {
  const backend = await served(t, [(peer, got) => peer.data(got, 0, data)], { structured: false })
  await t.rejects(read(backend, 0, 1000), { code: 'ERR_NBD_PROTOCOL', message: /nobody wanted/ })
})

t.test('207: simple replies', async (t) => {
  const backend = await served(
    t,
    [
      (peer, got) => peer.simple(got, 0, data),
      (peer, got) => peer.simple(got, IO),
      (peer, got) => peer.simple(got, 0, Buffer.alloc(2)),
      (peer, got) => peer.simple(got, 28),
    ],
    { structured: false },
  )
  t.strictSame(await read(backend, 0, 1000), data)
  await t.rejects(read(backend, 0, 1000), { code: 'ERR_STORAGE', cause: { message: 'EIO' } })
  t.equal(backend.isGone, false)
  t.strictSame(await read(backend, 5, 2), Buffer.alloc(2))
  await t.rejects(backend.pwrite(data, 0), { code: 'ERR_STORAGE_FULL', statusCode: 507 })
})

t.test('209: errors are told and the connection goes on', async (t) => {
  const error = (errno: number, text = '') =>
    pack('u32', errno, 'u16', text.length, Buffer.from(text))
  const backend = await served(t, [
    (peer, got) => {
      peer.data(got, 0, data.subarray(0, 500), false)
      peer.chunk(got, 0, 0x8002, Buffer.concat([error(IO, 'bad\nsector'), pack('u64', 600)]))
      peer.hole(got, 700, 300)
    },
    (peer, got) => peer.chunk(got, 1, 0x8001, error(1)),
    (peer, got) => peer.chunk(got, 1, 0x8001, error(30)),
    (peer, got) => peer.chunk(got, 1, 0x8001, error(108)),
    (peer, got) => peer.chunk(got, 1, 0x8001, error(4711)),
    (peer, got) => peer.chunk(got, 1, 0x9999, error(22)),
    (peer, got) => peer.hole(got, 0, 1000),
  ])
  const message = 'EIO: bad sector'
  await t.rejects(read(backend, 0, 1000), { code: 'ERR_STORAGE', cause: { message } })
  await t.rejects(read(backend, 0, 1000), { code: 'ERR_STORAGE_READ_ONLY' })
  await t.rejects(read(backend, 0, 1000), { code: 'ERR_STORAGE_READ_ONLY' })
  await t.rejects(read(backend, 0, 1000), { code: 'ERR_STORAGE_GONE', statusCode: 502 })
  await t.rejects(read(backend, 0, 1000), { cause: { message: 'error 4711' } })
  await t.rejects(read(backend, 0, 1000), { cause: { message: 'EINVAL' } })
  t.strictSame(await read(backend, 0, 1000), Buffer.alloc(1000))
})

t.test('silence ends at the deadline, for everything in flight', async (t) => {
  const backend = await served(t, [() => undefined], {}, { operationTimeoutMs: 200 })
  const late = { code: 'ERR_STORAGE_TIMEOUT', statusCode: 504 }
  await Promise.all([
    t.rejects(read(backend, 0, 10), late),
    t.rejects(backend.pwrite(data, 0), late),
    t.rejects(backend.flush(), late),
  ])
  t.ok(backend.isGone)
})

t.test(
  'a reply that stops in the middle ends at the deadline, and touches nothing more',
  async (t) => {
    const backend = await served(
      t,
      [
        async (peer, got) => {
          const size = got.length
          peer.send('u32', 0x668e33ef, 'u16', 1, 'u16', 1, got.cookie, 'u32', size + 8, 'u64', 0)
          peer.send(Buffer.alloc(size / 2, 1))
        },
      ],
      {},
      { operationTimeoutMs: 200 },
    )
    const buffer = Buffer.alloc(256 * 1024)
    await t.rejects(backend.pread(buffer, 0), { code: 'ERR_STORAGE_TIMEOUT' })
    buffer.fill(9)
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.ok(buffer.every((byte) => byte === 9))
  },
)

t.test('a server that does not read does not hang a write', async (t) => {
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake({ size: 2 ** 30 })
    await new Promise(() => undefined)
  })
  const backend = await openExport(t, url, { operationTimeoutMs: 300 })
  const write = backend.pwrite(Buffer.alloc(64 * 1024 * 1024), 0)
  await t.rejects(within('write', 5000, write), { code: 'ERR_STORAGE_TIMEOUT' })
})

t.test('a connection that is lost is told', async (t) => {
  const backend = await served(t, [(peer) => peer.hangUp()])
  await t.rejects(read(backend, 0, 10), StorageGoneError)
  t.ok(backend.isGone)
})

t.test('a canceled ticket ends a request without an answer', async (t) => {
  const abort = new AbortController()
  const backend = await served(
    t,
    [() => undefined],
    {},
    { signal: abort.signal, operationTimeoutMs: 60_000 },
  )
  const reading = read(backend, 0, 10)
  abort.abort(new Error('canceled'))
  await t.rejects(reading, { message: 'canceled' })
})

t.test('217: a close says good-bye', async (t) => {
  let last = -1
  const backend = await served(t, [(_, { type }) => void (last = type)])
  await backend.close()
  await backend.close()
  await until('DISC', () => last === 2)
  await t.rejects(read(backend, 0, 10), { code: 'ERR_STORAGE', message: /closed/ })
})
