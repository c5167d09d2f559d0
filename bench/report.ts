/** Figures as a table in Markdown, ready for docs/benchmarks.md. */
import { GiB } from '../core/units.js'

export interface Run {
  readonly seconds: number
  readonly cpuSeconds: number
}

export interface Result {
  readonly title: string
  readonly system: string
  /** Bytes moved in one run. */
  readonly size: number
  readonly runs: readonly Run[]
}

const REFERENCE = 'nginx'

export function formatReport(results: readonly Result[]): string {
  const rows = results.map((result) => {
    const reference = results.find(
      ({ title, system }) => title === result.title && system === REFERENCE,
    )
    const own = figures(result)
    const other = reference && reference !== result ? figures(reference) : undefined
    return [
      result.title,
      result.system,
      own.rate.toFixed(2),
      own.cpu.toFixed(2),
      other ? `${(own.rate / other.rate).toFixed(2)} ×` : '',
      other && other.cpu > 0 ? `${(own.cpu / other.cpu).toFixed(2)} ×` : '',
    ]
  })
  const header = ['case', 'system', 'GiB/s', 'CPU s/GiB', 'rate to nginx', 'CPU to nginx']
  const lines = [header, header.map(() => '---'), ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

function figures({ size, runs }: Result): { rate: number; cpu: number } {
  const amount = size / GiB
  return {
    rate: amount / median(runs.map(({ seconds }) => seconds)),
    cpu: median(runs.map(({ cpuSeconds }) => cpuSeconds)) / amount,
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low = NaN, high = NaN] = sorted.slice(sorted.length % 2 ? middle : middle - 1)
  return sorted.length % 2 ? low : (low + high) / 2
}
