/**
 * Which threads of the daemon have the work: with N streams, and as many threads of the native front, none
 * has much more than one part in N, and JavaScript's has little.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { timeCommands } from './command.js'
import { fill } from './images.js'
import { imageioFiles, startImageio } from './imageio.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import { median, table } from './report.js'
import type { Direction, Target } from './system.js'
import { takeTurns } from './turns.js'

interface ThreadsRun {
  /** Of all threads together. */
  readonly cpuSeconds: number
  /** Parts of it. */
  readonly busiest: number
  readonly javascript: number
}

export interface ThreadsResult {
  readonly title: string
  readonly streams: number
  readonly runs: readonly ThreadsRun[]
}

export async function measureThreads(
  place: Place,
  { filter, size, runs, systems }: BenchOptions,
): Promise<ThreadsResult[]> {
  const results: ThreadsResult[] = []
  if (!systems.has('imageio')) return results
  for (const direction of ['GET', 'PUT'] as const) {
    for (const streams of [1, 2, 4]) {
      const title = `threads ${direction} ×${streams} TLS ${place.kind}`
      if (!filter.test(title)) continue
      results.push({ title, streams, runs: await measure(title, place, direction, streams) })
    }
  }
  return results

  /** Each with a daemon of its own, as the number of threads is. */
  async function measure(title: string, place: Place, direction: Direction, streams: number) {
    const config = `[transport]\nnative = on\nthreads = ${streams}\n`
    const imageio = await startImageio(place, config)
    const payload = join(place.store, 'payload')
    const files = Array.from({ length: streams }, (_, index) => join(place.store, `busy-${index}`))
    for (const file of [payload, ...files]) await fill(file, size / streams)
    const targets = await imageioFiles(imageio, 'imageio').serve(files, direction)
    const transfer = (): Promise<number> =>
      timeCommands(targets.map((target) => commandOf(target, direction, payload)))
    const contender = {
      name: 'imageio',
      verify: async () => {
        await transfer() // the first has to find its memory
      },
      run: async () => {
        const before = threadSeconds(imageio.pid)
        await transfer()
        return shares(imageio.pid, before, threadSeconds(imageio.pid))
      },
    }
    const [outcome] = await takeTurns(title, [contender], runs)
    for (const file of [payload, ...files]) await rm(file)
    return outcome?.runs ?? []
  }
}

export function formatThreads(results: readonly ThreadsResult[], size: number): string {
  const GiB = 2 ** 30
  const percent = (part: number): string => `${(part * 100).toFixed(0)} %`
  const rows = results.map(({ title, streams, runs }) => [
    title,
    ((median(runs.map(({ cpuSeconds }) => cpuSeconds)) * GiB) / size).toFixed(2),
    percent(median(runs.map(({ busiest }) => busiest))),
    percent(1 / streams),
    percent(median(runs.map(({ javascript }) => javascript))),
  ])
  return table(['case', 'CPU s/GiB', 'busiest thread', '1/N', "JavaScript's thread"], rows)
}

function commandOf({ command }: Target, direction: Direction, payload: string) {
  const local = direction === 'PUT' ? { local: payload } : {}
  return command({ direction, transport: 'TLS', ...local })
}

/** What each thread has used so far (proc(5), schedstat: nanoseconds). */
function threadSeconds(pid: number): Map<number, number> {
  const ids = readdirSync(`/proc/${pid}/task`).map(Number)
  return new Map(
    ids.map((id) => {
      const [used] = readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'latin1').split(' ')
      return [id, Number(used) / 1e9]
    }),
  )
}

/** Node's first thread is JavaScript's. */
function shares(
  pid: number,
  before: ReadonlyMap<number, number>,
  after: ReadonlyMap<number, number>,
): ThreadsRun {
  const used = [...after].map(([id, seconds]) => ({ id, seconds: seconds - (before.get(id) ?? 0) }))
  const cpuSeconds = used.reduce((sum, { seconds }) => sum + seconds, 0)
  const busiest = Math.max(...used.map(({ seconds }) => seconds)) / cpuSeconds
  const main = used.find(({ id }) => id === pid)?.seconds ?? 0
  return { cpuSeconds, busiest, javascript: main / cpuSeconds }
}
