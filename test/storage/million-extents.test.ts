/** Lists of extents of any length are passed on as they come, at the pace of the client. */
import t, { type Test } from 'tap'
import { request as httpRequest } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { KiB, MiB } from '../../core/units.js'
import { startDaemon, type Daemon } from '../support/daemon.js'
import { keepAlive, request } from '../support/http.js'
import { scriptedServer } from '../support/nbd-script.js'
import { sleep, until } from '../support/wait.js'

const COUNT = 1_000_000
/** Odd ones are zero, so that none are joined. */
const LENGTH = 4 * KiB
const SIZE = COUNT * LENGTH
const BLOCK_STATUS = 7
const STATUS_CHUNK = 5
/** As many as qemu tells at a time, at most. */
const AT_A_TIME = 128 * KiB
const MAX_GROWTH = 64 * MiB
const SHORT_LISTS = 40

interface Told {
  questions: number
}

/** An export of alternating data and zeroes. Its answers are made once: the test is about the daemon. */
async function alternating(t: Test, told: Told): Promise<string> {
  const pairs = Buffer.alloc(4 + AT_A_TIME * 8)
  pairs.writeUInt32BE(1, 0)
  for (let index = 0; index < AT_A_TIME; index++) {
    pairs.writeUInt32BE(LENGTH, 4 + index * 8)
    pairs.writeUInt32BE(index % 2 === 0 ? 0 : 3, 8 + index * 8)
  }
  return scriptedServer(t, async (peer) => {
    await peer.handshake({ size: SIZE, contexts: ['base:allocation'] })
    while (!peer.isEnded) {
      const asked = await peer.request()
      if (asked.type !== BLOCK_STATUS) return
      if (asked.offset % (2 * LENGTH) !== 0) throw new Error('the answer would be out of step')
      told.questions++
      const count = Math.min(AT_A_TIME, asked.length / LENGTH)
      peer.chunk(asked, 1, STATUS_CHUNK, pairs.subarray(0, 4 + count * 8))
    }
  })
}

t.test('a million extents to a slow client, in bounded memory', async (t) => {
  const daemon = await startDaemon(t, { config: { logger_root: { level: 'INFO' } } })
  const told: Told = { questions: 0 }
  const url = await alternating(t, told)
  const id = await daemon.addTicket({ url, size: SIZE, ops: ['read'] })
  const path = `/images/${id}/extents`
  // Node lets garbage grow to its limit for short-lived memory, of some 100 MiB, which is no growth:
  // lists that are short, but many, take it there.
  const agent = keepAlive(daemon.remote)
  for (let count = 0; count < SHORT_LISTS; count++) {
    const short = `${path}?length=${16 * KiB * LENGTH}`
    const { status } = await request(daemon.remote, 'GET', short, { agent })
    if (status !== 200) throw new Error(`${status}`)
  }
  agent.destroy()
  for (const [name, accept, separator] of [
    ['JSON', 'application/json', ', {'],
    ['lines', 'application/x-ndjson', '\n{'],
  ] as const) {
    await t.test(name, async (t) => {
      const before = daemon.residentSize()
      told.questions = 0
      const response = await get(daemon, path, accept)
      t.equal(response.statusCode, 200)
      // Nothing is read until the daemon asks nothing any more.
      let last = -1
      let since = 0
      await until('the daemon waits for the client', () => {
        since = told.questions === last ? since + 1 : 0
        last = told.questions
        return since === 10
      })
      const waiting = told.questions
      const peak = await readSlowly(response, separator, daemon)
      const { count, end, faults, peakSize } = peak
      t.strictSame({ count, end, faults }, { count: COUNT, end: SIZE, faults: 0 })
      t.ok(waiting < told.questions / 2, `${waiting} of ${told.questions} questions were asked`)
      const growth = peakSize - before
      t.ok(growth < MAX_GROWTH, `${Math.round(growth / MiB)} MiB more at most`)
    })
  }
})

function get(daemon: Daemon, path: string, accept: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = { ...daemon.remote, path, headers: { accept }, agent: false }
    httpRequest(options, (response) => resolve(response.pause()))
      .on('error', reject)
      .end()
  })
}

interface Seen {
  count: number
  end: number
  /** Gaps, overlaps, neighbours alike, keys that are wrong. */
  faults: number
  peakSize: number
}

/** With a rest now and then, at which the memory of the daemon is looked at. */
async function readSlowly(
  response: IncomingMessage,
  separator: string,
  daemon: Daemon,
): Promise<Seen> {
  const seen: Seen = { count: 0, end: 0, faults: 0, peakSize: 0 }
  const take = (text: string): void => {
    const { start, length, zero, hole } = JSON.parse(text) as Record<string, unknown>
    const isExpected = zero === (seen.count % 2 === 1) && hole === false
    if (start !== seen.end || length !== LENGTH || !isExpected) seen.faults++
    seen.end += Number(length)
    seen.count++
  }
  let rest = ''
  let unread = 0
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
    const parts = `${rest}${chunk}`.split(separator)
    rest = parts.pop() ?? ''
    for (const part of parts) take(openingOf(part))
    unread += chunk.length
    if (unread < MiB) continue
    unread = 0
    await sleep(5)
    seen.peakSize = Math.max(seen.peakSize, daemon.residentSize())
  }
  take(openingOf(rest.replace(/\]?\n$/, '')))
  return seen
}

/** The brace that was taken for a part of the separator. */
function openingOf(text: string): string {
  const object = text.startsWith('[') ? text.slice(1) : text
  return object.startsWith('{') ? object : `{${object}`
}
