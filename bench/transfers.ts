/** Downloads and uploads by several systems, which take turns. Who they are: comparisons.ts. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { timeCommands } from './command.js'
import { copyOnce, fill, verify } from './images.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import type { Result, Run } from './report.js'
import type { Direction, System, Target, Transport } from './system.js'
import { takeTurns, type Contender } from './turns.js'

interface Case {
  readonly direction: Direction
  readonly transport: Transport
  readonly streams: number
}

const CASES: readonly Case[] = (['TLS', 'unix'] as const).flatMap((transport) =>
  (['GET', 'PUT'] as const).flatMap((direction) =>
    [1, 4].map((streams) => ({ direction, transport, streams })),
  ),
)

interface Comparison {
  /** How its titles begin. */
  readonly prefix: string
  /** Over what, if not over all that there is. */
  readonly transport?: Transport
  /** Called if any of its cases is wanted. */
  readonly start: () => Promise<readonly System[]>
}

export async function compare(
  { prefix, transport, start }: Comparison,
  place: Place,
  options: BenchOptions,
): Promise<Result[]> {
  const cases = CASES.filter((one) => one.transport === (transport ?? one.transport))
  const wanted = cases
    .map((one) => {
      const title = `${prefix}${one.direction} ×${one.streams} ${one.transport} ${place.kind}`
      return { one, title }
    })
    .filter(({ title }) => options.filter.test(title))
  const results: Result[] = []
  if (wanted.length === 0) return results
  const systems = await start()
  for (const { one, title } of wanted) {
    const contenders = await prepare(one, place, options.size, systems)
    const { size, runs } = options
    const outcomes = await takeTurns(title, contenders, runs)
    results.push(...outcomes.map(({ name, runs }) => ({ title, system: name, size, runs })))
    for (const system of systems) await system.release()
    for (const { targets } of contenders) {
      for (const { file } of targets) await rm(file, { force: true })
    }
  }
  return results
}

/** All files exist in full, as volumes do. */
async function prepare(
  one: Case,
  { store }: Place,
  size: number,
  systems: readonly System[],
): Promise<TransferContender[]> {
  const imageSize = size / one.streams
  const payload = join(store, 'payload')
  await fill(payload, imageSize)
  const contenders: TransferContender[] = []
  for (const system of systems) {
    const volume = one.direction === 'GET' ? 'image' : system.volume
    const files = Array.from({ length: one.streams }, (_, index) =>
      join(store, `${volume}-${index}`),
    )
    for (const file of files) await copyOnce(payload, file)
    const targets = await system.serve(files, one.direction)
    const job = { ...one, payload, imageSize, check: join(store, 'check') }
    contenders.push({ ...contender(system, targets, job), targets })
  }
  return contenders
}

interface TransferContender extends Contender<Run> {
  readonly targets: readonly Target[]
}

interface Job extends Case {
  readonly payload: string
  readonly imageSize: number
  /** Where a download goes that is looked at. */
  readonly check: string
}

function contender(system: System, targets: readonly Target[], job: Job): Contender<Run> {
  const { direction, transport, payload } = job
  return {
    name: system.name,
    verify: async () => {
      for (const target of targets) {
        const local = direction === 'GET' ? job.check : payload
        // What is overwritten must differ, or an upload that does nothing would pass.
        if (direction === 'PUT') await fill(target.file, job.imageSize)
        await timeCommands([target.command({ direction, transport, local })])
        verify(payload, direction === 'GET' ? local : target.file)
        await rm(job.check, { force: true })
      }
    },
    run: async () => {
      const local = direction === 'GET' ? {} : { local: payload }
      const commands = targets.map(({ command }) => command({ direction, transport, ...local }))
      return measureRun(system, () => timeCommands(commands))
    },
  }
}

/** What a run takes of the time of clocks and of processors. */
export async function measureRun(
  system: Pick<System, 'cpuSeconds' | 'behindCpuSeconds' | 'peakMiB'>,
  work: () => Promise<number>,
): Promise<Run> {
  const before = system.cpuSeconds()
  const behindBefore = system.behindCpuSeconds?.()
  const seconds = await work()
  const cpuSeconds = system.cpuSeconds() - before
  const behindAfter = system.behindCpuSeconds?.()
  const peakMiB = system.peakMiB?.()
  return {
    seconds,
    cpuSeconds,
    ...(behindBefore !== undefined && behindAfter !== undefined
      ? { behindCpuSeconds: behindAfter - behindBefore }
      : {}),
    ...(peakMiB !== undefined ? { peakMiB } : {}),
  }
}
