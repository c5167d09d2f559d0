/** Replies with random mistakes, in random pieces: right bytes, or an error of the protocol. */
import t from 'tap'
import { ByteFeed } from '../../../../daemon/backends/nbd/byte-feed.js'
import { NbdProtocolError } from '../../../../daemon/backends/nbd/errors.js'
import { PendingRequest } from '../../../../daemon/backends/nbd/pending-request.js'
import { Command } from '../../../../daemon/backends/nbd/protocol.js'
import { Replies } from '../../../../daemon/backends/nbd/replies.js'
import { pack } from '../../../support/nbd-script.js'
import { pattern, random } from '../images.js'

const SEED = Number(process.env['FUZZ_SEED'] ?? 1)
const ROUNDS = 20_000
const SIZE = 20_000
const image = pattern(SIZE)
const cookie = pack('u32', 7, 'u32', 1)

type Dialect = 'structured' | 'extended'

const MAGIC = { structured: '668e33ef', extended: '6e8a278c' }

const chunk = (dialect: Dialect, flags: number, type: number, ...payload: Buffer[]): Buffer => {
  const body = Buffer.concat(payload)
  const length =
    dialect === 'extended' ? pack('u64', 0, 'u64', body.length) : pack('u32', body.length)
  const magic = Buffer.from(MAGIC[dialect], 'hex')
  return pack(magic, 'u16', flags, 'u16', type, cookie, length, body)
}

const status = (dialect: Dialect, flags: number, context: number): Buffer =>
  dialect === 'extended'
    ? chunk(dialect, flags, 6, pack('u32', context, 'u32', 2), extents('u64'))
    : chunk(dialect, flags, 5, pack('u32', context), extents('u32'))

const extents = (width: string): Buffer => pack(width, 100, width, 0, width, SIZE - 100, width, 3)

type Next = ReturnType<typeof random>

/** A correct reply to a read of everything, cut at random. */
function reply(dialect: Dialect, next: Next): Buffer {
  const chunks: Buffer[] = []
  for (let offset = 0; offset < SIZE;) {
    const length = Math.min(1 + next(SIZE), SIZE - offset)
    chunks.push(chunk(dialect, 0, 1, pack('u64', offset), image.subarray(offset, offset + length)))
    offset += length
  }
  if (next(2) === 0) chunks.reverse()
  return Buffer.concat([...chunks, chunk(dialect, 1, 0)])
}

/** Mistakes hit headers more often than data. */
function spoil(dialect: Dialect, bytes: Buffer, next: Next): void {
  for (let count = next(4); count > 0; count--) {
    const headers: number[] = []
    for (let at = 0; at >= 0; at = bytes.indexOf(MAGIC[dialect], at + 1, 'hex')) headers.push(at)
    const header = headers[next(headers.length)] ?? 0
    const at = Math.min(header + next(40), bytes.length - 1)
    bytes[at] = next(3) === 0 ? next(256) : bytes[at]! ^ (1 << next(8))
  }
}

function feedInPieces(feed: ByteFeed, bytes: Buffer, next: Next): void {
  for (let at = 0; at < bytes.length;) {
    const direct = next(2) === 0 ? feed.direct : undefined
    const size = Math.min(1 + next(next(2) === 0 ? 30 : 9000), bytes.length - at)
    const piece = bytes.subarray(at, at + Math.min(size, direct?.length ?? size))
    if (direct === undefined) feed.feed(Buffer.from(piece))
    else feed.filled(piece.copy(direct))
    at += piece.length
  }
}

t.test(`broken replies, seed ${SEED}`, async (t) => {
  const next = random(SEED)
  const outcomes = { complete: 0, refused: 0, incomplete: 0, failed: 0 }
  for (let round = 0; round < ROUNDS; round++) {
    const memory = Buffer.alloc(SIZE + 64, 0xaa)
    const target = memory.subarray(32, 32 + SIZE)
    const isRead = next(5) > 0
    const dialect = next(2) === 0 ? 'structured' : 'extended'
    const request = new PendingRequest(
      { command: isRead ? Command.READ : Command.BLOCK_STATUS, flags: 0, offset: 0, length: SIZE },
      isRead ? { target } : { contexts: new Set([1, 2]) },
    )
    const feed = new ByteFeed()
    const state = { isFinished: false }
    const find = (high: number, low: number) =>
      high === 7 && low === 1 && !state.isFinished ? request : undefined
    new Replies(feed, { dialect, find, finish: () => (state.isFinished = true) }).start()
    const bytes = isRead
      ? reply(dialect, next)
      : Buffer.concat([status(dialect, 0, 1), status(dialect, 1, 2)])
    const original = Buffer.from(bytes)
    spoil(dialect, bytes, next)
    try {
      feedInPieces(feed, bytes, next)
    } catch (error) {
      if (!(error instanceof NbdProtocolError)) throw error
      outcomes.refused++
      continue
    } finally {
      const isOutside = memory.subarray(0, 32).every((byte) => byte === 0xaa)
      const isBehind = memory.subarray(32 + SIZE).every((byte) => byte === 0xaa)
      if (!isOutside || !isBehind) t.fail(`round ${round} wrote outside of the buffer`)
    }
    if (!state.isFinished) outcomes.incomplete++
    else if (request.error !== undefined) outcomes.failed++
    else {
      outcomes.complete++
      if (isRead && bytes.equals(original) && !target.equals(image)) {
        t.fail(`round ${round} gave wrong bytes`)
      }
      if (!isRead && request.status.size !== 2) t.fail(`round ${round} lacks a context`)
    }
  }
  t.comment(JSON.stringify(outcomes))
  t.ok(outcomes.complete > ROUNDS / 10)
  t.ok(outcomes.refused > ROUNDS / 10)
})
