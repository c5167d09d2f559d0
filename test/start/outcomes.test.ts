import t from 'tap'
import { outcomesOf } from '../../start/outcomes.js'

const phase = (facts: object): string =>
  `[2026-11-23 06:33:06,847] INFO: phase ${JSON.stringify(facts)}\n`

t.test('the end of a transfer is a line, with its reason, whatever else is logged', async (t) => {
  const said: string[] = []
  const read = outcomesOf((line) => void said.push(line))
  const reason = 'the image was refused: it has a backing file'
  const log = [
    phase({ transfer: 'a', from: 'initializing', phase: 'transferring' }),
    phase({ transfer: 'a', from: 'finalizing_success', phase: 'finished_success' }),
    phase({ transfer: 'b', from: 'finalizing_success', phase: 'finalizing_failure', reason }),
    '[2026-11-23 06:33:06,847] WARN: something else {"phase":"finished_failure"}\n',
    'phase {"phase":"finished_failure"}\n[x] INFO: phase {broken}\n',
    phase({ transfer: 'b', from: 'finalizing_failure', phase: 'finished_failure', reason }),
    phase({ transfer: 'c', from: 'finished_cleanup', phase: 'finished_failure' }),
    phase({ transfer: 'd', from: 'transferring', phase: 'paused_system', reason: 'lost' }),
  ].join('')
  for (const character of log) read(character)
  t.strictSame(said, [
    'transfer a succeeded',
    `transfer b failed: ${reason}`,
    'transfer c was cancelled',
    'transfer d is paused: lost',
  ])
})
