/** Downloads and uploads by several systems: of files beside nginx, of NBD exports beside nbdcopy. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isInstalled, timeCommands } from './command.js'
import { imageioFiles, imageioNbd, startImageio } from './imageio.js'
import { copyOnce, fill, verify } from './images.js'
import { NbdExports } from './nbd-exports.js'
import { nbdcopy } from './nbdcopy.js'
import { startNginx } from './nginx.js'
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

export function measureFiles(place: Place, options: BenchOptions): Promise<Result[]> {
  return measure('', place, options, async () => {
    const { systems } = options
    const found: System[] = []
    if (systems.has('imageio')) found.push(imageioFiles(await startImageio(place), 'imageio'))
    if (systems.has('nginx') && isInstalled('nginx')) found.push(await startNginx(place))
    return found
  })
}

/** What the reference of NBD exports is called. */
export const OWN_FILES = 'imageio file'

export async function measureNbd(place: Place, options: BenchOptions): Promise<Result[]> {
  if (!isInstalled('qemu-nbd')) return []
  return measure('NBD ', place, options, async () => {
    const { systems } = options
    const newExports = (): NbdExports => {
      const exports = new NbdExports(place.dir)
      place.atEnd(() => exports.close())
      return exports
    }
    const found: System[] = []
    if (systems.has('imageio')) {
      const imageio = await startImageio(place)
      found.push(imageioNbd(imageio, 'imageio NBD', newExports()), imageioFiles(imageio, OWN_FILES))
    }
    if (systems.has('nbdcopy') && isInstalled('nbdcopy')) found.push(nbdcopy(newExports()))
    return found
  })
}

async function measure(
  prefix: string,
  place: Place,
  options: BenchOptions,
  start: () => Promise<readonly System[]>,
): Promise<Result[]> {
  const wanted = CASES.map((one) => {
    const title = `${prefix}${one.direction} ×${one.streams} ${one.transport} ${place.kind}`
    return { one, title }
  }).filter(({ title }) => options.filter.test(title))
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
  system: Pick<System, 'cpuSeconds' | 'exportCpuSeconds'>,
  work: () => Promise<number>,
): Promise<Run> {
  const before = system.cpuSeconds()
  const exportsBefore = system.exportCpuSeconds?.()
  const seconds = await work()
  const cpuSeconds = system.cpuSeconds() - before
  const exportsAfter = system.exportCpuSeconds?.()
  if (exportsBefore === undefined || exportsAfter === undefined) return { seconds, cpuSeconds }
  return { seconds, cpuSeconds, exportCpuSeconds: exportsAfter - exportsBefore }
}
