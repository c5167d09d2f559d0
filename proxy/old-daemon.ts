/**
 * Daemons of the first versions can read and write, and nothing else. What clients expect of any daemon
 * since is made of that here: zeroes are written, and all of the image is data.
 */
import type { Exchange } from '../core/http/exchange.js'
import type { PatchRequest } from '../core/images/patch-request.js'
import { BodyMemory } from './body-memory.js'
import { AnsweredEarly, type DaemonAnswer } from './daemon-request.js'
import { DaemonAnswerError } from './errors.js'
import { requestHeaders } from './headers.js'
import { parseMembers } from './local-socket.js'
import { pump, readAll, type ByteSource } from './pump.js'
import {
  ask,
  cancelOn,
  checkAnswer,
  checkSuccess,
  passOn,
  type Relay,
  type RelayServices,
} from './relay.js'
import { SentBytes } from './sent-bytes.js'

/** Bytes of an answer that is read as a whole. */
const MAX_SMALL = 64 * 1024

interface Work {
  readonly signal: AbortSignal
  readonly onProgress: (offset: number, size: number) => void
}

/** Perhaps the daemon does not know PATCH at all; one that refuses this one says 403 or 400. */
export function mayBeWithoutPatch({ status }: DaemonAnswer): boolean {
  return status === 405 || status === 501
}

/**
 * Whether the daemon is an old one, which its OPTIONS tells and a refusal alone does not: something in
 * between may refuse PATCH, and then a flush would be answered that nobody has done.
 */
export async function isWithout(
  feature: PatchRequest['op'],
  exchange: Exchange,
  { upstream }: Relay,
  signal: AbortSignal,
): Promise<boolean> {
  // What was not flushed would stay so: an old daemon flushes by itself, but it was told not to.
  if (feature === 'flush' && upstream.hasSkippedFlush) return false
  const question = { method: 'OPTIONS', headers: requestHeaders(exchange), isRepeatable: true }
  const { status, body } = await ask(upstream, question, signal)
  try {
    if (status === 204 || status === 405) return true
    if (status !== 200) return false
    const features = parseMembers(await readAll(body, MAX_SMALL)).get('features')
    return !(Array.isArray(features) && features.includes(feature))
  } finally {
    body.release()
  }
}

/** Flushes with each PUT, as it knows no other way. */
export async function patchOld(
  exchange: Exchange,
  services: RelayServices,
  { ticket, upstream }: Relay,
  request: PatchRequest,
  { signal, onProgress }: Work,
): Promise<void> {
  if (request.op === 'flush' || request.size === 0) {
    exchange.send(200)
    return
  }
  const { offset, size } = request
  const headers = {
    ...requestHeaders(exchange),
    'content-length': size,
    'content-range': `bytes ${offset}-${offset + size - 1}/*`,
    'content-type': 'application/octet-stream',
  }
  const memory = BodyMemory.ofImage(services.buffers, size)
  const put = await upstream.begin({ method: 'PUT', headers, isWork: true, memory }, signal)
  const stop = cancelOn(signal, put)
  const sent = new SentBytes(offset, onProgress)
  let left = size
  try {
    await pump(zeroes(size), put, {
      memory,
      size,
      limit: size,
      beyond: () => new Error('more zeroes than asked for'),
      onMoved: (piece) => {
        ticket.touch()
        left -= piece
        sent.add(piece)
      },
    })
    put.end()
  } catch (error) {
    if (!(error instanceof AnsweredEarly)) throw error
    if (put.hasAll(size)) {
      sent.add(left)
      put.end()
    }
  } finally {
    void put.whenUnused.then(() => memory.release())
  }
  const answer = await put.answer
  answer.body.whenReleased(stop)
  checkAnswer(answer)
  checkSuccess(answer, put, size)
  if (answer.status < 300) sent.confirm()
  await passOn(exchange, services, ticket, answer)
}

/** One extent of data; its size is that of a download, which is not read. */
export async function extentsOld(
  exchange: Exchange,
  { ticket, upstream }: Relay,
  signal: AbortSignal,
): Promise<void> {
  const question = { method: 'GET', headers: requestHeaders(exchange), isRepeatable: true }
  const { status, head, body } = await ask(upstream, question, signal)
  body.release()
  const length = head.headers['content-length']
  if (status !== 200 || length === undefined) throw new DaemonAnswerError('an image without a size')
  const size = Math.min(Number(length), ticket.limit)
  exchange.sendJson([{ start: 0, length: size, zero: false, hole: false }])
}

function zeroes(size: number): ByteSource {
  let left = size
  return {
    read: (target) => {
      const filled = Math.min(left, target.length)
      target.fill(0, 0, filled)
      left -= filled
      return Promise.resolve(filled)
    },
  }
}
