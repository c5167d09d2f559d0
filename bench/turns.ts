/** Who is compared takes turns, so that what disturbs the machine disturbs all. */
import { execFileSync } from 'node:child_process'
import { note } from './note.js'

export interface Contender<R> {
  readonly name: string
  /** Once before the counted runs: is the work done, and done right? */
  readonly verify: () => Promise<void>
  readonly run: () => Promise<R>
}

export interface Outcome<R> {
  readonly name: string
  readonly runs: readonly R[]
}

export async function takeTurns<R>(
  title: string,
  contenders: readonly Contender<R>[],
  runs: number,
): Promise<Outcome<R>[]> {
  const all = contenders.map((contender) => ({ contender, done: [] as R[] }))
  for (let round = 0; round <= runs; round++) {
    for (const { contender, done } of all) {
      execFileSync('sync')
      if (round === 0) await contender.verify()
      else done.push(await contender.run())
      note(`${title} ${contender.name}: ${round === 0 ? 'verified' : `run ${round} of ${runs}`}`)
    }
  }
  return all.map(({ contender, done }) => ({ name: contender.name, runs: done }))
}
