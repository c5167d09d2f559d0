/** Figures as tables in Markdown, ready for docs/benchmarks.md. Those of proxies: proxy-report.ts. */
import { GiB } from '../core/units.js'

export interface Run {
  readonly seconds: number
  readonly cpuSeconds: number
  /** CPU time of the servers behind what was measured, if there are any. */
  readonly behindCpuSeconds?: number
  /** Of what was measured, if memory is of interest. */
  readonly peakMiB?: number
}

export interface Result {
  readonly title: string
  readonly system: string
  /** Bytes moved in one run. */
  readonly size: number
  readonly runs: readonly Run[]
}

/** What the others of the same title are compared with. */
export interface Reference {
  readonly system: string
  /** That many of it: the work of one core, for instance, times the cores. */
  readonly times?: number
  /** For the header, where the system's name will not do. */
  readonly label?: string
}

export interface ExtentsRun {
  readonly firstMs: number
  readonly lastMs: number
  /** Of the daemon. */
  readonly memory?: { readonly beforeMiB: number; readonly peakMiB: number }
}

export interface ExtentsResult {
  readonly title: string
  readonly system: string
  readonly extents: number
  readonly runs: readonly ExtentsRun[]
}

export interface RequestTimes {
  readonly requests: number
  readonly seconds: number
  readonly medianMs: number
  /** 99 of 100 requests took no longer. */
  readonly p99Ms: number
}

export interface RequestsRun extends RequestTimes {
  /** Of the server, unless it did something else as well. */
  readonly cpuSeconds?: number
}

export interface RequestsResult {
  readonly title: string
  readonly system: string
  readonly runs: readonly RequestsRun[]
}

export function formatReport(results: readonly Result[], reference: Reference): string {
  const hasBehind = results.some(({ runs }) => behindCpu(runs) !== undefined)
  const rows = results.map((result) => {
    const other = results.find(
      ({ title, system }) => title === result.title && system === reference.system,
    )
    const own = figures(result)
    const theirs = other && other !== result ? figures(other) : undefined
    const behindCell = own.behindCpu?.toFixed(2) ?? ''
    return [
      result.title,
      result.system,
      own.rate.toFixed(2),
      own.cpu.toFixed(2),
      ...(hasBehind ? [behindCell] : []),
      ratio(own.rate, theirs && theirs.rate * (reference.times ?? 1)),
      ratio(own.cpu, theirs?.cpu),
    ]
  })
  const { label = reference.system } = reference
  const behindHeader = hasBehind ? ['qemu-nbd s/GiB'] : []
  const header = ['case', 'system', 'GiB/s', 'CPU s/GiB', ...behindHeader]
  return table([...header, `rate to ${label}`, `CPU to ${reference.system}`], rows)
}

export function formatExtents(results: readonly ExtentsResult[]): string {
  const rows = results.map(({ title, system, extents, runs }) => {
    const memory = runs.flatMap(({ memory }) => memory ?? [])
    return [
      title,
      system,
      String(extents),
      median(runs.map(({ firstMs }) => firstMs)).toFixed(1),
      median(runs.map(({ lastMs }) => lastMs)).toFixed(1),
      memory[0]?.beforeMiB.toFixed(0) ?? '',
      // A bound is a bound: not the median.
      memory.length > 0 ? Math.max(...memory.map(({ peakMiB }) => peakMiB)).toFixed(0) : '',
    ]
  })
  const header = ['case', 'system', 'extents', 'first byte ms', 'last byte ms']
  return table([...header, 'MiB before', 'MiB at peak'], rows)
}

export function formatRequests(results: readonly RequestsResult[]): string {
  const rows = results.map(({ title, system, runs }) => {
    const cpu = runs.flatMap(({ requests, cpuSeconds }) =>
      cpuSeconds === undefined ? [] : [(cpuSeconds / requests) * 1e6],
    )
    return [
      title,
      system,
      median(runs.map(({ requests, seconds }) => requests / seconds)).toFixed(0),
      median(runs.map(({ medianMs }) => medianMs)).toFixed(2),
      median(runs.map(({ p99Ms }) => p99Ms)).toFixed(2),
      cpu.length > 0 ? median(cpu).toFixed(0) : '',
    ]
  })
  return table(['case', 'system', 'requests/s', 'median ms', 'p99 ms', 'CPU µs each'], rows)
}

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, header.map(() => '---'), ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

export function ratio(own: number, other: number | undefined): string {
  return other !== undefined && other > 0 ? `${(own / other).toFixed(2)} ×` : ''
}

interface Figures {
  readonly rate: number
  readonly cpu: number
  readonly behindCpu?: number
}

export function figures({ size, runs }: Result): Figures {
  const amount = size / GiB
  const rate = amount / median(runs.map(({ seconds }) => seconds))
  const cpu = median(runs.map(({ cpuSeconds }) => cpuSeconds)) / amount
  const behind = behindCpu(runs)
  return behind === undefined ? { rate, cpu } : { rate, cpu, behindCpu: behind / amount }
}

function behindCpu(runs: readonly Run[]): number | undefined {
  const seconds = runs.flatMap(({ behindCpuSeconds }) => behindCpuSeconds ?? [])
  return seconds.length > 0 ? median(seconds) : undefined
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low = NaN, high = NaN] = sorted.slice(sorted.length % 2 ? middle : middle - 1)
  return sorted.length % 2 ? low : (low + high) / 2
}
