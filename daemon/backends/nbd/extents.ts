/** Extents of an export: the server's contexts merged into what clients are told. */
import { roundDown, roundUp } from '../alignment.js'
import type { Extent, ExtentContext } from '../backend.js'
import { DirtyExtentsUnavailableError } from '../errors.js'
import { ExtentPages } from '../extent-pages.js'
import { ALLOCATION_DEPTH, BASE_ALLOCATION, type Negotiated } from './handshake.js'
import { broken } from './messages.js'
import type { StatusList } from './status-list.js'
import { StatusQuestions, type AskStatus } from './status-questions.js'

/** Flag of base:allocation. */
const STATE_ZERO = 1 << 1
/** Flag of qemu:dirty-bitmap. */
const STATE_DIRTY = 1 << 0

/** What contexts say of a range. */
type Facts = Partial<Record<'zero' | 'hole' | 'dirty', boolean>>
/** Adds what one context says in the extent with that index. */
type Meaning = (facts: Facts, list: StatusList, index: number) => void

export async function* nbdExtents(
  start: number,
  end: number,
  context: ExtentContext,
  facts: Negotiated,
  ask: AskStatus,
): AsyncGenerator<readonly Extent[]> {
  const meanings = meaningsOf(context, facts)
  if (meanings.size === 0) {
    yield [extentOf(start, end - start, {}, context)]
    return
  }
  const { size, dialect } = facts
  const { minimum } = facts.blockSizes
  const questions = new StatusQuestions(Math.min(size, roundUp(end, minimum)), dialect, ask)
  const pages = new ExtentPages()
  let position = roundDown(start, minimum)
  while (position < end) {
    const { status, length } = await questions.at(position)
    const lists = [...meanings].map(([id, meaning]) => ({
      list: checked(status.get(id), position, length, { minimum, size }),
      meaning,
    }))
    for (const { length: step, facts: said } of combine(lists)) {
      const from = Math.max(position, start)
      position += step
      const to = Math.min(position, end)
      if (to > from) pages.add(extentOf(from, to - from, said, context))
      if (position >= end) break
      if (pages.isFull) yield pages.take()
    }
    yield pages.take()
  }
  yield pages.end()
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
    meanings.set(base, (facts, list, index) => {
      facts.zero = (list.flags(index) & STATE_ZERO) !== 0
    })
  }
  if (context === 'dirty' && dirty !== undefined) {
    meanings.set(dirty, (facts, list, index) => {
      facts.dirty = (list.flags(index) & STATE_DIRTY) !== 0
    })
  } else if (base !== undefined && depth !== undefined) {
    meanings.set(depth, (facts, list, index) => {
      facts.hole = list.isZero(index)
    })
  }
  return meanings
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

/** What nobody tells is false. */
function extentOf(start: number, length: number, facts: Facts, context: ExtentContext): Extent {
  const { zero = false, hole = false, dirty = false } = facts
  return context === 'zero' ? { start, length, zero, hole } : { start, length, dirty, zero }
}

interface Cut {
  length: number
  readonly facts: Facts
}

/** Cuts at every boundary of any list; ends with the shortest. Each cut is valid until the next. */
function* combine(lists: readonly { list: StatusList; meaning: Meaning }[]): Generator<Cut> {
  const cursors = lists.map(({ list, meaning }) => ({ list, meaning, index: -1, left: 0 }))
  const cut: Cut = { length: 0, facts: {} }
  for (;;) {
    cut.length = Infinity
    for (const cursor of cursors) {
      if (cursor.left === 0) {
        if (++cursor.index >= cursor.list.count) return
        cursor.left = cursor.list.length(cursor.index)
        cursor.meaning(cut.facts, cursor.list, cursor.index)
      }
      cut.length = Math.min(cut.length, cursor.left)
    }
    for (const cursor of cursors) cursor.left -= cut.length
    yield cut
  }
}
