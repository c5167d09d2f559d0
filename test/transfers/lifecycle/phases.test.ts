import t from 'tap'
import { FaultError } from '../../../transfers/fault.js'
import {
  isFinal,
  nextPhase,
  PHASES,
  TRANSFER_EVENTS,
  type Kind,
  type TransferEvent,
} from '../../../transfers/lifecycle/phases.js'
import type { Direction, Phase, TimeoutPolicy } from '../../../transfers/model.js'

/**
 * The table of the specification in another form than the code has it: lines of
 * "phases | event | upload | download". What no line mentions stays as it is.
 */
const SPECIFICATION = `
initializing                            | prepared       | transferring       | transferring
initializing                            | unusable       | finished_failure   | finished_failure
initializing                            | setup failed   | paused_system      | cancelled_system
transferring                            | session lost   | paused_system      | cancelled_system
resuming                                | restored       | transferring       | transferring
resuming                                | restore failed | paused_system      | cancelled_system
initializing transferring resuming      | pause          | paused_user        | 400
initializing transferring resuming      | resume         | 409                | 409
initializing transferring resuming      | cancel         | cancelled_user     | cancelled_user
initializing transferring resuming      | finalize       | finalizing_success | finalizing_success
paused_user paused_system               | pause          | =                  | 400
paused_user paused_system               | resume         | resuming           | resuming
paused_user paused_system               | cancel         | cancelled_user     | cancelled_user
paused_user paused_system               | finalize       | finalizing_success | finalizing_success
cancelled_user cancelled_system         | pause          | 409                | 400
cancelled_user cancelled_system         | resume         | 409                | 409
cancelled_user                          | proceed        | finalizing_cleanup | finalizing_cleanup
cancelled_system                        | proceed        | finalizing_failure | finalizing_failure
finalizing_success finalizing_cleanup   | pause          | 409                | 400
finalizing_success finalizing_cleanup   | resume         | 409                | 409
finalizing_failure finished_cleanup     | pause          | 409                | 400
finalizing_failure finished_cleanup     | resume         | 409                | 409
finalizing_success                      | stopped        | =                  | finished_success
finalizing_success                      | verified       | finished_success   | =
finalizing_success                      | refused        | finalizing_failure | =
finalizing_cleanup                      | stopped        | finished_cleanup   | finished_cleanup
finalizing_failure                      | stopped        | finished_failure   | finished_failure
finished_cleanup                        | proceed        | finished_failure   | finished_failure
finished_success finished_failure       | pause          | =                  | 400
finished_success finished_failure       | resume         | 409                | 409
`

const DIRECTIONS: readonly Direction[] = ['upload', 'download']
const POLICIES: readonly TimeoutPolicy[] = ['legacy', 'pause', 'cancel']
const KINDS: readonly Kind[] = DIRECTIONS.flatMap((direction) =>
  POLICIES.map((timeoutPolicy) => ({ direction, timeoutPolicy })),
)

function expected(phase: Phase, event: TransferEvent, { direction, timeoutPolicy }: Kind): string {
  if (phase === 'transferring' && event === 'inactive') {
    if (timeoutPolicy === 'cancel') return 'cancelled_system'
    if (timeoutPolicy === 'pause') return 'paused_system'
    return direction === 'upload' ? 'paused_system' : 'cancelled_system'
  }
  for (const line of SPECIFICATION.trim().split('\n')) {
    const [phases = '', name, upload = '', download = ''] = line
      .split('|')
      .map((word) => word.trim())
    if (name !== event || !phases.split(/\s+/).includes(phase)) continue
    const next = direction === 'upload' ? upload : download
    return next === '=' ? phase : next
  }
  return phase
}

function actual(phase: Phase, event: TransferEvent, kind: Kind): string {
  try {
    return nextPhase(phase, event, kind)
  } catch (error) {
    if (error instanceof FaultError) return String(error.statusCode)
    throw error
  }
}

t.test('every event in every phase does what the specification says', (t) => {
  for (const kind of KINDS) {
    for (const phase of PHASES) {
      for (const event of TRANSFER_EVENTS) {
        const what = `${kind.direction}, ${kind.timeoutPolicy}: ${event} in ${phase}`
        t.equal(actual(phase, event, kind), expected(phase, event, kind), what)
      }
    }
  }
  t.end()
})

t.test('what is refused is told in words', (t) => {
  const kind = { direction: 'download', timeoutPolicy: 'legacy' } as const
  t.throws(() => nextPhase('transferring', 'pause', kind), {
    message: 'A download cannot be paused.',
  })
  t.end()
})

t.test('the two final phases are left by nothing', (t) => {
  const final = PHASES.filter(isFinal)
  t.same(final, ['finished_success', 'finished_failure'])
  for (const kind of KINDS) {
    for (const phase of final) {
      for (const event of TRANSFER_EVENTS) {
        const next = actual(phase, event, kind)
        t.ok(next === phase || /^4/.test(next), `${event} in ${phase}: ${next}`)
      }
    }
  }
  t.end()
})

t.test('from every phase a final one is reached once the client has cancelled', (t) => {
  for (const kind of KINDS) {
    for (const start of PHASES) {
      let phase = nextPhase(start, 'cancel', kind)
      for (let step = 0; step < PHASES.length && !isFinal(phase); step++) {
        for (const event of ['proceed', 'stopped', 'verified'] as const) {
          phase = nextPhase(phase, event, kind)
        }
      }
      t.ok(isFinal(phase), `${kind.direction} cancelled in ${start} ends as ${phase}`)
    }
  }
  t.end()
})

t.test('no walk makes an upload a success that was not verified after it was stopped', (t) => {
  const random = mulberry(20)
  for (let walk = 0; walk < 2000; walk++) {
    const kind = KINDS[walk % KINDS.length]!
    let phase: Phase = 'initializing'
    let hasTicket = false
    for (let step = 0; step < 60; step++) {
      const event = TRANSFER_EVENTS[Math.floor(random() * TRANSFER_EVENTS.length)]!
      const next = actual(phase, event, kind)
      if (/^4/.test(next)) continue
      if (next !== phase && event === 'prepared') hasTicket = true
      if (next === 'finished_success' && phase !== next) {
        const cause = kind.direction === 'upload' ? 'verified' : 'stopped'
        t.equal(event, cause, `walk ${walk}: a success without ${cause}`)
        t.equal(phase, 'finalizing_success')
      }
      if (next === 'transferring' && phase === 'initializing') t.ok(hasTicket)
      phase = next as Phase
    }
  }
  t.end()
})

/** A small generator with a seed, so that a failing walk is walked again. */
function mulberry(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
