/** What is written and not flushed must not be lost silently with the server. */
import { rmSync, symlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import t, { type Test } from 'tap'
import type { Backend } from '../../../../daemon/backends/backend.js'
import { ImageStates } from '../../../../daemon/backends/image-states.js'
import {
  scriptedServer,
  USUAL_FLAGS,
  type ExportFacts,
  type NbdRequest,
  type Peer,
} from '../../../support/nbd-script.js'
import { until } from '../../../support/wait.js'
import { openExport } from './exports.js'

const MULTI = 1 << 8
const READ = 0
const DISC = 2
const FLUSH = 3

interface Served {
  readonly url: string
  readonly open: () => Promise<Backend>
  readonly peers: Peer[]
  readonly seen: NbdRequest[]
  readonly lost: unknown[]
}

/** Everything succeeds until a peer hangs up. */
async function served(t: Test, facts: ExportFacts = {}, flushErrno = 0): Promise<Served> {
  const peers: Peer[] = []
  const seen: NbdRequest[] = []
  const lost: unknown[] = []
  const url = await scriptedServer(t, async (peer) => {
    peers.push(peer)
    await peer.handshake(facts)
    for (;;) {
      const request = await peer.request()
      seen.push(request)
      if (request.type !== DISC) peer.simple(request, request.type === FLUSH ? flushErrno : 0)
    }
  })
  const options = { images: new ImageStates(), onWritesLost: (cause: unknown) => lost.push(cause) }
  return { url, open: () => openExport(t, url, options), peers, seen, lost }
}

const gone = (backend: Backend) => until('loss is noticed', () => backend.isGone === true)

t.test('writes and zeroes without a flush are lost with the connection', async (t) => {
  for (const change of [
    (backend: Backend) => backend.pwrite(Buffer.alloc(10), 0),
    (backend: Backend) => backend.zero(0, 10, { mayPunchHole: true }),
  ]) {
    const { open, peers, lost } = await served(t)
    const backend = await open()
    await backend.flush()
    await change(backend)
    t.equal(lost.length, 0)
    peers[0]!.hangUp()
    await gone(backend)
    t.match(lost, [{ code: 'ERR_STORAGE_GONE' }])
    await t.rejects(backend.flush(), { code: 'ERR_WRITES_LOST' })
  }
})

t.test('after a flush, or without a write, nothing is lost', async (t) => {
  const { open, peers, lost } = await served(t)
  const backend = await open()
  await backend.pwrite(Buffer.alloc(10), 0)
  await backend.flush()
  peers[0]!.hangUp()
  await gone(backend)
  t.equal(lost.length, 0)
})

t.test('a server that goes as soon as it has flushed takes nothing with it', async (t) => {
  const lost: unknown[] = []
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake()
    for (;;) {
      const request = await peer.request()
      peer.simple(request)
      if (request.type === FLUSH) peer.hangUp()
    }
  })
  for (let times = 0; times < 5; times++) {
    const backend = await openExport(t, url, { onWritesLost: (cause) => lost.push(cause) })
    await backend.pwrite(Buffer.alloc(10), 0)
    await backend.flush()
    await gone(backend)
  }
  t.strictSame(lost, [])
})

t.test('a server that cannot flush has nothing to lose', async (t) => {
  const { open, peers, lost, seen } = await served(t, { flags: 1 })
  const backend = await open()
  await backend.pwrite(Buffer.alloc(10), 0)
  await backend.flush()
  peers[0]!.hangUp()
  await gone(backend)
  t.equal(lost.length, 0)
  t.notOk(seen.some(({ type }) => type === FLUSH))
})

t.test('a flush goes through all that have written, whatever the server says of one', async (t) => {
  for (const flags of [USUAL_FLAGS, USUAL_FLAGS | MULTI]) {
    const { open, peers, lost, seen } = await served(t, { flags })
    const [writer, , flusher] = [await open(), await open(), await open()]
    await writer.pwrite(Buffer.alloc(10), 0)
    await flusher.flush()
    t.equal(seen.filter(({ type }) => type === FLUSH).length, 2)
    peers[0]!.hangUp()
    await gone(writer)
    t.equal(lost.length, 0)
    await flusher.flush()
  }
})

t.test('a server that was replaced without a word is found out by a flush', async (t) => {
  // Its connection seems to be open: a host that lost its power closes none.
  const answers = { isSilent: false }
  const url = await scriptedServer(t, async (peer) => {
    const isOld = !answers.isSilent
    await peer.handshake({ flags: USUAL_FLAGS | MULTI })
    for (;;) {
      const request = await peer.request()
      if (!isOld || !answers.isSilent) peer.simple(request)
    }
  })
  const lost: unknown[] = []
  const options = {
    images: new ImageStates(),
    onWritesLost: (cause: unknown) => lost.push(cause),
    operationTimeoutMs: 200,
  }
  const writer = await openExport(t, url, options)
  await writer.pwrite(Buffer.alloc(10), 0)
  answers.isSilent = true
  const other = await openExport(t, url, options)
  await t.rejects(other.flush(), { code: 'ERR_STORAGE_TIMEOUT' })
  t.equal(lost.length, 1)
  await t.rejects(other.flush(), { code: 'ERR_WRITES_LOST' }, 'also for who did not write')
})

t.test('writes lost under one ticket fail the flushes of all that are open', async (t) => {
  const { open, peers } = await served(t)
  const [writer, other] = [await open(), await open()]
  await writer.pwrite(Buffer.alloc(10), 0)
  peers[0]!.hangUp()
  await gone(writer)
  await t.rejects(other.flush(), { code: 'ERR_WRITES_LOST' })
  await t.rejects(
    async () => other.pwriteStable?.(Buffer.alloc(10), 0),
    { code: 'ERR_WRITES_LOST' },
    'no small upload is called stable either',
  )
  const next = await open()
  await next.pwrite(Buffer.alloc(10), 0)
  await next.flush() // who starts over can, also while the others are still there
  await t.rejects(other.flush(), { code: 'ERR_WRITES_LOST' })
})

t.test('names of one socket are one image', async (t) => {
  const { url, seen } = await served(t)
  const path = url.slice('nbd:unix:'.length)
  const link = `${path}.link`
  symlinkSync(path, link)
  t.teardown(() => rmSync(link))
  const images = new ImageStates()
  const writer = await openExport(t, url, { images })
  const other = await openExport(t, `nbd:unix:${dirname(path)}/./socket.link`, { images })
  await writer.pwrite(Buffer.alloc(10), 0)
  await other.flush()
  t.equal(seen.filter(({ type }) => type === FLUSH).length, 2)
})

t.test('a failed flush is final: the server forgets what it lost', async (t) => {
  const answers = { errno: 0 }
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake()
    for (;;) {
      const request = await peer.request()
      peer.simple(request, request.type === FLUSH ? answers.errno : 0)
    }
  })
  const images = new ImageStates()
  const [first, second] = [
    await openExport(t, url, { images }),
    await openExport(t, url, { images }),
  ]
  await second.pwrite(Buffer.alloc(10), 0)
  answers.errno = 5
  await t.rejects(first.flush(), { code: 'ERR_STORAGE' })
  answers.errno = 0
  await t.rejects(second.flush(), { code: 'ERR_WRITES_LOST' })
})

t.test('a flush that failed with nothing to store may be tried again', async (t) => {
  const { open } = await served(t, {}, 5)
  const backend = await open()
  await t.rejects(backend.flush(), { code: 'ERR_STORAGE' })
  await t.rejects(backend.flush(), { code: 'ERR_STORAGE' })
})

t.test('a connection that closes is not cut under the flush of another', async (t) => {
  const flushes: (() => void)[] = []
  let isHeld = true
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake()
    for (;;) {
      const request = await peer.request()
      if (request.type === DISC) return
      if (request.type === FLUSH && isHeld) flushes.push(() => peer.simple(request))
      else peer.simple(request)
    }
  })
  const lost: unknown[] = []
  const options = {
    images: new ImageStates(),
    onWritesLost: (cause: unknown) => lost.push(cause),
  }
  const [writer, other] = [await openExport(t, url, options), await openExport(t, url, options)]
  await writer.pwrite(Buffer.alloc(10), 0)
  const flushing = other.flush() // on both connections
  await until('both are asked', () => flushes.length === 2)
  const closing = writer.close() // with a flush of its own
  await until('the last flush', () => flushes.length === 3)
  isHeld = false
  flushes[2]!() // the connection could go now, but for the first
  await new Promise(setImmediate)
  for (const answer of flushes.slice(0, 2)) answer()
  await Promise.all([flushing, closing])
  t.equal(lost.length, 0)
})

t.test('a server that stores at once, and cannot flush, stores at once', async (t) => {
  const SEND_FUA = 1 << 3
  const { open, seen } = await served(t, { flags: 1 | SEND_FUA | 64 })
  const backend = await open()
  await backend.pwrite(Buffer.alloc(10), 0)
  await backend.zero(0, 10, { mayPunchHole: true })
  await backend.flush()
  t.ok(seen.length === 2 && seen.every(({ flags }) => (flags & 1) !== 0))
})

t.test('a close flushes what nobody did, and only then says good-bye', async (t) => {
  const { open, seen, lost } = await served(t)
  const backend = await open()
  await backend.pwrite(Buffer.alloc(10), 0)
  await backend.close()
  await until('good-bye', () => seen.length === 3)
  t.strictSame(
    seen.map(({ type }) => type),
    [1, FLUSH, DISC],
  )
  t.equal(lost.length, 0)
})

t.test('a close whose flush fails has lost writes', async (t) => {
  const { open, lost } = await served(t, {}, 5)
  const backend = await open()
  await backend.pwrite(Buffer.alloc(10), 0)
  await backend.close()
  t.match(lost, [{ message: 'EIO' }])
})

t.test('a loss that comes in one piece with the acknowledgement is noticed', async (t) => {
  const lost: unknown[] = []
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake()
    const { cookie } = await peer.request()
    const acknowledged = ['u32', 0x67446698, 'u32', 0, cookie] as const
    peer.send(...acknowledged, Buffer.alloc(16, 0xff))
    for (;;) await peer.request()
  })
  const onWritesLost = (cause: unknown) => lost.push(cause)
  const backend = await openExport(t, url, { onWritesLost })
  await backend.pwrite(Buffer.alloc(10), 0)
  await gone(backend)
  t.equal(lost.length, 1)
  await t.rejects(backend.flush(), { code: 'ERR_WRITES_LOST' })
})

t.test('a flush does not succeed before an earlier one that fails', async (t) => {
  const flushes: ((errno: number) => void)[] = []
  let writers = 0
  const url = await scriptedServer(t, async (peer) => {
    const isWriter = writers++ === 0
    await peer.handshake({ structured: false })
    for (;;) {
      const request = await peer.request()
      const isRead = request.type === READ
      if (request.type !== FLUSH || !isWriter) peer.simple(request, 0, Buffer.alloc(isRead ? 1 : 0))
      else flushes.push((errno) => peer.simple(request, errno))
    }
  })
  const images = new ImageStates()
  const [writer, other] = [
    await openExport(t, url, { images }),
    await openExport(t, url, { images }),
  ]
  await writer.pwrite(Buffer.alloc(10), 0)
  const settled: string[] = []
  const flush = (backend: Backend) =>
    backend.flush().then(
      () => settled.push('stored'),
      () => settled.push('failed'),
    )
  const both = [flush(writer), flush(other)]
  await until('both are asked', () => flushes.length === 2)
  flushes[1]!(0)
  const after = other.pread(Buffer.alloc(1), 0)
  await writer.pread(Buffer.alloc(1), 0) // an answer behind that one
  await after
  t.strictSame(settled, [])
  flushes[0]!(5)
  await Promise.all(both)
  t.strictSame(settled, ['failed', 'failed'])
  await t.rejects(other.flush(), { code: 'ERR_WRITES_LOST' })
})

t.test('who was opening the export while writes were lost does not start over', async (t) => {
  const opening: (() => void)[] = []
  const peers: Peer[] = []
  const url = await scriptedServer(t, async (peer) => {
    peers.push(peer)
    if (peers.length === 3) await new Promise<void>((resolve) => opening.push(resolve))
    await peer.handshake()
    for (;;) peer.simple(await peer.request())
  })
  const images = new ImageStates()
  const [writer] = [await openExport(t, url, { images }), await openExport(t, url, { images })]
  await writer.pwrite(Buffer.alloc(10), 0)
  const late = openExport(t, url, { images, connectTimeoutMs: 10_000 })
  await until('it opens the export', () => opening.length === 1)
  peers[0]!.hangUp()
  await gone(writer)
  opening[0]!()
  await t.rejects((await late).flush(), { code: 'ERR_WRITES_LOST' })
  await (await openExport(t, url, { images })).flush()
})

t.test('a flush that fails tells all whose writes it was to store', async (t) => {
  const answers = { errno: 0 }
  const url = await scriptedServer(t, async (peer) => {
    await peer.handshake()
    for (;;) {
      const request = await peer.request()
      peer.simple(request, request.type === FLUSH ? answers.errno : 0)
    }
  })
  const images = new ImageStates()
  const lost: string[] = []
  const open = (name: string): Promise<Backend> =>
    openExport(t, url, { images, onWritesLost: () => lost.push(name) })
  const [writer, stored, idle, other] = [
    await open('writer'),
    await open('stored'),
    await open('idle'),
    await open('other'),
  ]
  await stored.pwrite(Buffer.alloc(10), 0)
  await stored.flush()
  await writer.pwrite(Buffer.alloc(10), 0)
  answers.errno = 5
  await t.rejects(other.flush(), { code: 'ERR_STORAGE' })
  answers.errno = 0
  t.strictSame(lost, ['writer'])
  await t.rejects(writer.flush(), { code: 'ERR_WRITES_LOST' })
  await t.rejects(idle.flush(), { code: 'ERR_WRITES_LOST' })
})
