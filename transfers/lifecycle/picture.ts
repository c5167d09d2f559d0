/** The table of phases as a diagram, in Mermaid's words. */
import { FaultError } from '../fault.js'
import type { Direction, Phase, TimeoutPolicy } from '../model.js'
import {
  isFinal,
  nextPhase,
  PHASES,
  TRANSFER_EVENTS,
  type Kind,
  type TransferEvent,
} from './phases.js'

export const PICTURE_BEGIN = '<!-- This picture is made from the table of phases: npm run docs. -->'
export const PICTURE_END = '<!-- The picture ends here. -->'

const DIRECTIONS: readonly Direction[] = ['upload', 'download']
const POLICIES: readonly TimeoutPolicy[] = ['legacy', 'pause', 'cancel']
const KINDS: readonly Kind[] = DIRECTIONS.flatMap((direction) =>
  POLICIES.map((timeoutPolicy) => ({ direction, timeoutPolicy })),
)

/** What stands between the two marks. */
export function lifecyclePicture(): string {
  const lines = ['stateDiagram-v2', '    [*] --> initializing']
  for (const phase of PHASES) {
    for (const [next, labels] of edgesFrom(phase)) {
      lines.push(`    ${phase} --> ${next} : ${labels.join(', ')}`)
    }
    if (isFinal(phase)) lines.push(`    ${phase} --> [*]`)
  }
  return ['```mermaid', ...lines, '```'].join('\n')
}

/** The page with the picture anew. */
export function withPicture(page: string): string {
  const [begin, end] = [page.indexOf(PICTURE_BEGIN), page.indexOf(PICTURE_END)]
  if (begin < 0 || end < begin) throw new Error('the page has no place for the picture')
  const before = page.slice(0, begin + PICTURE_BEGIN.length)
  return `${before}\n\n${lifecyclePicture()}\n\n${page.slice(end)}`
}

/** Other phases that are reached, with the events that lead there. */
function edgesFrom(phase: Phase): Map<Phase, string[]> {
  const edges = new Map<Phase, string[]>()
  for (const event of TRANSFER_EVENTS) {
    for (const [next, kinds] of targets(phase, event)) {
      const labels = edges.get(next) ?? []
      labels.push(kinds.length === KINDS.length ? event : `${event} (${which(kinds)})`)
      edges.set(next, labels)
    }
  }
  return edges
}

function targets(phase: Phase, event: TransferEvent): Map<Phase, Kind[]> {
  const found = new Map<Phase, Kind[]>()
  for (const kind of KINDS) {
    const next = phaseAfter(phase, event, kind)
    if (next !== undefined && next !== phase) found.set(next, [...(found.get(next) ?? []), kind])
  }
  return found
}

/** Undefined where the event is refused. */
function phaseAfter(phase: Phase, event: TransferEvent, kind: Kind): Phase | undefined {
  try {
    return nextPhase(phase, event, kind)
  } catch (error) {
    if (error instanceof FaultError) return undefined
    throw error
  }
}

/** In words, without the colons and semicolons that end a label. */
function which(kinds: readonly Kind[]): string {
  return DIRECTIONS.flatMap((direction) => {
    const policies = kinds
      .filter((kind) => kind.direction === direction)
      .map(({ timeoutPolicy }) => timeoutPolicy)
    if (policies.length === 0) return []
    if (policies.length === POLICIES.length) return [direction]
    return [`${direction} with policy ${policies.join(' or ')}`]
  }).join(' and ')
}
