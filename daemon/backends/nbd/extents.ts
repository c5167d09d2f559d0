/** Extents of an export: the server's contexts merged into what clients are told. */
import { roundDown, roundUp } from '../alignment.js'
import type { Extent, ExtentContext } from '../backend.js'
import { DirtyExtentsUnavailableError } from '../errors.js'
import { ALLOCATION_DEPTH, BASE_ALLOCATION, type Negotiated } from './handshake.js'
import { broken } from './messages.js'
import type { StatusList } from './status-list.js'
import { StatusQuestions, type AskStatus } from './status-questions.js'

/** Flag of base:allocation. */
const STATE_ZERO = 1 << 1
/** Flag of qemu:dirty-bitmap. */
const STATE_DIRTY = 1 << 0

/** What one context says of a range. */
type Facts = Partial<Record<'zero' | 'hole' | 'dirty', boolean>>
type Meaning = (list: StatusList, index: number) => Facts

export async function* nbdExtents(
  start: number,
  end: number,
  context: ExtentContext,
  facts: Negotiated,
  ask: AskStatus,
): AsyncGenerator<Extent> {
  const meanings = meaningsOf(context, facts)
  const plain: Extent =
    context === 'zero'
      ? { start, length: 0, zero: false, hole: false }
      : { start, length: 0, dirty: false, zero: false }
  if (meanings.size === 0) {
    yield { ...plain, length: end - start }
    return
  }
  let pending: Extent | undefined
  for await (const { length, ...said } of pieces(start, end, meanings, facts, ask)) {
    const extent: Extent = {
      ...plain,
      ...said,
      start: pending === undefined ? start : pending.start + pending.length,
      length,
    }
    if (pending !== undefined && isAlike(pending, extent)) {
      pending.length += length
      continue
    }
    if (pending !== undefined) yield pending
    pending = extent
  }
  if (pending !== undefined) yield pending
}

/** Context id to what its values mean. Throws DirtyExtentsUnavailableError. */
function meaningsOf(
  context: ExtentContext,
  { contexts, bitmap }: Negotiated,
): Map<number, Meaning> {
  const meanings = new Map<number, Meaning>()
  const base = contexts.get(BASE_ALLOCATION)
  const depth = contexts.get(ALLOCATION_DEPTH)
  const dirty = bitmap === undefined ? undefined : contexts.get(bitmap)
  if (context === 'dirty' && dirty === undefined) throw new DirtyExtentsUnavailableError()
  if (base !== undefined) {
    meanings.set(base, (list, index) => ({ zero: (list.flags(index) & STATE_ZERO) !== 0 }))
  }
  if (context === 'dirty' && dirty !== undefined) {
    meanings.set(dirty, (list, index) => ({ dirty: (list.flags(index) & STATE_DIRTY) !== 0 }))
  } else if (base !== undefined && depth !== undefined) {
    meanings.set(depth, (list, index) => ({ hole: list.isZero(index) }))
  }
  return meanings
}

type Piece = Facts & { length: number }

/** Exactly [start, end), in as many questions as the server wants. */
async function* pieces(
  start: number,
  end: number,
  meanings: ReadonlyMap<number, Meaning>,
  { size, blockSizes: { minimum }, dialect }: Negotiated,
  ask: AskStatus,
): AsyncGenerator<Piece> {
  const questions = new StatusQuestions(Math.min(size, roundUp(end, minimum)), dialect, ask)
  let position = roundDown(start, minimum)
  while (position < end) {
    const { status, length } = await questions.at(position)
    const lists = [...meanings].map(([id, meaning]) => ({
      list: checked(status.get(id), position, length, { minimum, size }),
      meaning,
    }))
    for (const piece of combine(lists)) {
      const from = Math.max(position, start)
      position += piece.length
      const to = Math.min(position, end)
      if (to > from) yield { ...piece, length: to - from }
      if (position >= end) return
    }
  }
}

/** Only the last extent may reach beyond the request. */
function checked(
  list: StatusList | undefined,
  offset: number,
  length: number,
  { minimum, size }: { minimum: number; size: number },
): StatusList {
  if (list === undefined) throw broken('no extents')
  let covered = 0
  for (let index = 0; index < list.count; index++) {
    if (covered >= length) throw broken('an extent behind the end of the request')
    const extent = list.length(index)
    covered += extent
    if (extent === 0) throw broken('an empty extent')
    if (extent % minimum !== 0 && offset + covered < size) {
      throw broken('an extent that is no multiple of the block size')
    }
  }
  return list
}

/** Cuts at every boundary of any list; ends with the shortest. */
function* combine(lists: readonly { list: StatusList; meaning: Meaning }[]): Generator<Piece> {
  const cursors = lists.map(({ list, meaning }) => ({ list, meaning, index: -1, left: 0 }))
  for (;;) {
    let length = Infinity
    let said: Facts = {}
    for (const cursor of cursors) {
      if (cursor.left === 0) {
        if (++cursor.index >= cursor.list.count) return
        cursor.left = cursor.list.length(cursor.index)
      }
      said = { ...said, ...cursor.meaning(cursor.list, cursor.index) }
      length = Math.min(length, cursor.left)
    }
    for (const cursor of cursors) cursor.left -= length
    yield { ...said, length }
  }
}

function isAlike(a: Extent, b: Extent): boolean {
  return a.zero === b.zero && a.hole === b.hole && a.dirty === b.dirty
}
