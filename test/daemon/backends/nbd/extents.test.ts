/** Conformance 210-211, and merging by hand-made answers. */
import t, { type Test } from 'tap'
import type { Backend } from '../../../../daemon/backends/backend.js'
import {
  scriptedServer,
  type ExportFacts,
  type NbdRequest,
  type Peer,
} from '../../../support/nbd-script.js'
import { collect } from '../images.js'
import { openExport } from './exports.js'

const BASE = 'base:allocation'
const DEPTH = 'qemu:allocation-depth'
const BITMAP = 'qemu:dirty-bitmap:b'

async function served(
  t: Test,
  facts: ExportFacts,
  answer: (peer: Peer, request: NbdRequest) => void,
): Promise<Backend> {
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake(facts)
    for (;;) answer(peer, await peer.request())
  })
  return openExport(t, url, { dirty: facts.contexts?.includes(BITMAP) ?? false })
}

const zero = (start: number, length: number, isZero: boolean, hole = false) => ({
  start,
  length,
  zero: isZero,
  hole,
})

t.test(
  'contexts are cut at every boundary, and neighbours joined by what is reported',
  async (t) => {
    const backend = await served(t, { size: 1000, contexts: [BASE, DEPTH] }, (peer, got) => {
      const base: [number, number][] = [
        [100, 0],
        [100, 3],
        [100, 2],
        [700, 0],
      ]
      peer.status(got, 1, base, false)
      peer.status(got, 2, [
        [150, 1],
        [650, 0],
        [200, 2],
      ])
    })
    t.strictSame(await collect(backend.extents(0, 1000, 'zero')), [
      zero(0, 100, false),
      zero(100, 50, true),
      zero(150, 150, true, true),
      zero(300, 500, false, true),
      zero(800, 200, false),
    ])
  },
)

t.test('the dirty view has the bitmap and zeroes', async (t) => {
  const facts = { size: 1000, contexts: [BASE, DEPTH, BITMAP] }
  const backend = await served(t, facts, (peer, got) => {
    peer.status(
      got,
      3,
      [
        [300, 0],
        [700, 1],
      ],
      false,
    )
    peer.status(got, 2, [[10, 0]], false)
    peer.status(got, 1, [
      [500, 0],
      [500, 3],
    ])
  })
  t.strictSame(await collect(backend.extents(0, 1000, 'dirty')), [
    { start: 0, length: 300, dirty: false, zero: false },
    { start: 300, length: 200, dirty: true, zero: false },
    { start: 500, length: 500, dirty: true, zero: true },
  ])
})

t.test('210: short answers are continued, an overlong one is clipped', async (t) => {
  const asked: [number, number][] = []
  const backend = await served(t, { size: 1000, contexts: [BASE] }, (peer, got) => {
    asked.push([got.offset, got.length])
    if (got.offset === 0) peer.status(got, 1, [[1, 0]])
    else if (got.offset < 400) peer.status(got, 1, [[399, 3]])
    else peer.status(got, 1, [[2 ** 31, 2]])
  })
  t.strictSame(await collect(backend.extents(0, 1000, 'zero')), [
    zero(0, 1, false),
    zero(1, 999, true),
  ])
  t.strictSame(asked, [
    [0, 1000],
    [1, 999],
    [400, 600],
  ])
  t.strictSame(await collect(backend.extents(1, 3, 'zero')), [zero(1, 2, true)])
  t.strictSame(await collect(backend.extents(399, 401, 'zero')), [zero(399, 2, true)])
})

t.test('the shorter of two contexts decides how far an answer goes', async (t) => {
  const backend = await served(t, { size: 1000, contexts: [BASE, DEPTH] }, (peer, got) => {
    peer.status(got, 1, [[got.length, 0]], false)
    peer.status(got, 2, [[Math.min(got.length, 300), 1]])
  })
  t.strictSame(await collect(backend.extents(0, 1000, 'zero')), [zero(0, 1000, false)])
})

t.test('127: large exports are asked in steps of just under 4 GiB and joined', async (t) => {
  const size = 2 ** 33 + 4096
  const backend = await served(t, { size, contexts: [BASE] }, (peer, got) => {
    if (got.offset % 65536 !== 0 || got.length > 2 ** 32 - 65536) throw new Error('too much')
    peer.status(got, 1, [[got.length, 3]])
  })
  t.strictSame(await collect(backend.extents(0, size, 'zero')), [zero(0, size, true)])
})

t.test('211: answers that make no sense fail', async (t) => {
  const wrong: [RegExp, ExportFacts, (peer: Peer, got: NbdRequest) => void][] = [
    [/empty extent/, {}, (peer, got) => peer.status(got, 1, [[0, 0]])],
    [
      /empty extent/,
      {},
      (peer, got) =>
        peer.status(got, 1, [
          [10, 0],
          [0, 1],
        ]),
    ],
    [
      /behind the end/,
      {},
      (peer, got) =>
        peer.status(got, 1, [
          [1000, 0],
          [1, 0],
        ]),
    ],
    [/unknown context/, {}, (peer, got) => peer.status(got, 7, [[10, 0]])],
    [
      /context twice/,
      {},
      (peer, got) => {
        peer.status(got, 1, [[10, 0]], false)
        peer.status(got, 1, [[10, 0]])
      },
    ],
    [/each context/, { contexts: [BASE, DEPTH] }, (peer, got) => peer.status(got, 1, [[10, 0]])],
    [/each context/, {}, (peer, got) => peer.chunk(got, 1, 0, Buffer.alloc(0))],
    [/wrong length/, {}, (peer, got) => peer.status(got, 1, [])],
    [/wrong length/, {}, (peer, got) => peer.chunk(got, 1, 5, Buffer.alloc(13))],
    [/multiple/, { blockSizes: [512, 4096, 65536] }, (peer, got) => peer.status(got, 1, [[10, 0]])],
    [/simple reply/, {}, (peer, got) => peer.simple(got)],
    [/reads none/, {}, (peer, got) => peer.data(got, 0, Buffer.alloc(1))],
  ]
  for (const [message, facts, answer] of wrong) {
    const backend = await served(t, { size: 1000, contexts: [BASE], ...facts }, answer)
    const extents = collect(backend.extents(0, 1000, 'zero'))
    await t.rejects(extents, { code: 'ERR_NBD_PROTOCOL', statusCode: 500, message })
  }
})

t.test('128, 132: without contexts there is one extent, and nothing dirty', async (t) => {
  for (const facts of [{ structured: false }, { contexts: [DEPTH] }]) {
    const backend = await served(t, { size: 1000, ...facts }, () => undefined)
    t.strictSame(await collect(backend.extents(0, 1000, 'zero')), [zero(0, 1000, false)])
    await t.rejects(collect(backend.extents(0, 1000, 'dirty')), {
      code: 'ERR_DIRTY_EXTENTS_UNAVAILABLE',
    })
  }
})
