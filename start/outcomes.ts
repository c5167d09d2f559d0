/** What becomes of transfers, read from the log of their service: why one failed nobody else says here. */

/** As it is logged, for people: `[time] LEVEL: phase {"transfer":…}`. */
const PHASE = /^\[[^\]]+\] [A-Z]+: phase (\{.*\})$/

/** Takes the log as it comes, and says one line for each transfer that ended, or was paused by the service. */
export function outcomesOf(say: (line: string) => void): (text: string) => void {
  let rest = ''
  return (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const outcome = outcomeOf(PHASE.exec(line)?.[1])
      if (outcome !== undefined) say(outcome)
    }
  }
}

function outcomeOf(json: string | undefined): string | undefined {
  const facts = new Map<string, unknown>(json === undefined ? [] : Object.entries(parse(json)))
  const text = (key: string): string => {
    const value = facts.get(key)
    return typeof value === 'string' ? value : ''
  }
  const [from, phase, reason] = [text('from'), text('phase'), text('reason')]
  const of = `transfer ${text('transfer')}`
  const why = reason === '' ? '' : `: ${reason}`
  if (phase === 'finished_success') return `${of} succeeded`
  if (phase === 'paused_system') return `${of} is paused${why}`
  if (phase !== 'finished_failure') return undefined
  return from === 'finished_cleanup' ? `${of} was cancelled` : `${of} failed${why}`
}

function parse(json: string): object {
  try {
    return Object(JSON.parse(json)) as object
  } catch {
    return {}
  }
}
