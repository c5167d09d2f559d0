/** What is written and not flushed must not be lost silently with the server. */
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
const DISC = 2
const FLUSH = 3

interface Served {
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
  return { open: () => openExport(t, url, options), peers, seen, lost }
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
    await t.rejects(backend.flush(), { code: 'ERR_STORAGE_GONE' })
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

t.test('where connections share a cache one flush is enough for all', async (t) => {
  const { open, peers, lost, seen } = await served(t, { flags: USUAL_FLAGS | MULTI })
  const [writer, other] = [await open(), await open()]
  await writer.pwrite(Buffer.alloc(10), 0)
  await other.flush()
  t.equal(seen.filter(({ type }) => type === FLUSH).length, 1)
  peers[0]!.hangUp()
  await gone(writer)
  t.equal(lost.length, 0)
})

t.test('where they do not a flush goes through all that have written', async (t) => {
  const { open, peers, lost, seen } = await served(t)
  const [writer, , flusher] = [await open(), await open(), await open()]
  await writer.pwrite(Buffer.alloc(10), 0)
  await flusher.flush()
  t.equal(seen.filter(({ type }) => type === FLUSH).length, 2)
  peers[0]!.hangUp()
  await gone(writer)
  t.equal(lost.length, 0)
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
