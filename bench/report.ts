/** Figures as tables in Markdown, ready for docs/benchmarks.md. */
import { GiB } from '../core/units.js'

export interface Run {
  readonly seconds: number
  readonly cpuSeconds: number
  /** CPU time of the NBD servers behind what was measured, if there are any. */
  readonly exportCpuSeconds?: number
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

export function formatReport(results: readonly Result[], reference: Reference): string {
  const hasExports = results.some(({ runs }) => exportCpu(runs) !== undefined)
  const rows = results.map((result) => {
    const other = results.find(
      ({ title, system }) => title === result.title && system === reference.system,
    )
    const own = figures(result)
    const theirs = other && other !== result ? figures(other) : undefined
    const exportsCell = own.exportCpu?.toFixed(2) ?? ''
    return [
      result.title,
      result.system,
      own.rate.toFixed(2),
      own.cpu.toFixed(2),
      ...(hasExports ? [exportsCell] : []),
      ratio(own.rate, theirs && theirs.rate * (reference.times ?? 1)),
      ratio(own.cpu, theirs?.cpu),
    ]
  })
  const { label = reference.system } = reference
  const exportsHeader = hasExports ? ['qemu-nbd s/GiB'] : []
  const header = ['case', 'system', 'GiB/s', 'CPU s/GiB', ...exportsHeader]
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

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, header.map(() => '---'), ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

function ratio(own: number, other: number | undefined): string {
  return other !== undefined && other > 0 ? `${(own / other).toFixed(2)} ×` : ''
}

interface Figures {
  readonly rate: number
  readonly cpu: number
  readonly exportCpu?: number
}

function figures({ size, runs }: Result): Figures {
  const amount = size / GiB
  const rate = amount / median(runs.map(({ seconds }) => seconds))
  const cpu = median(runs.map(({ cpuSeconds }) => cpuSeconds)) / amount
  const exported = exportCpu(runs)
  return exported === undefined ? { rate, cpu } : { rate, cpu, exportCpu: exported / amount }
}

function exportCpu(runs: readonly Run[]): number | undefined {
  const seconds = runs.flatMap(({ exportCpuSeconds }) => exportCpuSeconds ?? [])
  return seconds.length > 0 ? median(seconds) : undefined
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low = NaN, high = NaN] = sorted.slice(sorted.length % 2 ? middle : middle - 1)
  return sorted.length % 2 ? low : (low + high) / 2
}
