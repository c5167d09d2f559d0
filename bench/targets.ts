/**
 * Targets beside reference servers: reads the runs of a comparison (JSON: a list of case, system and runs,
 * each with `value`, GiB per second, and `cpu_per_gib`), prints what was aimed at and what came out.
 * Usage: node dist/bench/targets.js RUNS.json
 */
import { readFileSync } from 'node:fs'
import { median, table } from './report.js'

type Run = Readonly<Record<string, unknown>>
export interface CaseRuns {
  readonly case: string
  readonly system: string
  readonly runs: readonly Run[]
}

/** What of one case is compared with what of the other. */
interface Target {
  readonly case: string
  readonly of: 'value' | 'cpu_per_gib'
  readonly isAtMost: boolean
  readonly bound: number
  readonly reference: { readonly system: string; readonly case?: string }
}

const OWN = 'ours'

const atMost = (bound: number, name: string, reference: Target['reference']): Target => ({
  ...{ case: name, of: 'cpu_per_gib', isAtMost: true, bound, reference },
})
const atLeast = (bound: number, name: string, reference: Target['reference']): Target => ({
  ...{ case: name, of: 'value', isAtMost: false, bound, reference },
})

const UPLOAD = { system: 'null', case: 'put1-tls-tmpfs' }

const TARGETS: readonly Target[] = [
  ...[1, 4].flatMap((n) => [
    atMost(1, `get${n}-tls-tmpfs`, { system: 'null_batched' }),
    atLeast(1, `get${n}-tls-tmpfs`, { system: 'nginx' }),
    atMost(1, `put${n}-tls-tmpfs`, { system: 'null' }),
    atLeast(0.9, `put${n}-tls-tmpfs`, { system: 'null' }),
  ]),
  atLeast(1.5, 'get1-tls-ext4', { system: 'nginx_directio' }),
  atMost(0.7, 'get1-tls-ext4', { system: 'nginx_directio' }),
  ...[1, 4].flatMap((n) => [
    atMost(0.3, `get${n}-unix-tmpfs`, UPLOAD),
    atMost(0.4, `put${n}-unix-tmpfs`, UPLOAD),
    atLeast(0.85, `nbd-get${n}-tls-tmpfs`, { system: OWN, case: `get${n}-tls-tmpfs` }),
    atLeast(0.85, `nbd-put${n}-tls-tmpfs`, { system: OWN, case: `put${n}-tls-tmpfs` }),
  ]),
]

/** Rows of the targets that were measured. */
export function targetRows(records: readonly CaseRuns[]): string[][] {
  return TARGETS.flatMap((target) => {
    const { reference, of, isAtMost, bound } = target
    const own = figure(records, OWN, target.case, of)
    const other = figure(records, reference.system, reference.case ?? target.case, of)
    if (own === undefined || other === undefined) return []
    const ratio = own / other
    // As printed: nobody measures more than two digits.
    const shown = Number(ratio.toFixed(2))
    const isMet = isAtMost ? shown <= bound : shown >= bound
    const what = of === 'value' ? 'rate' : 'CPU'
    const whose = reference.system === OWN ? 'our own' : reference.system
    const where = reference.case === undefined ? whose : `${whose}, ${reference.case}`
    return [
      [
        target.case,
        `${what} ${isAtMost ? '≤' : '≥'} ${bound} × ${where}`,
        `${ratio.toFixed(2)} ×`,
        isMet ? 'met' : 'missed',
      ],
    ]
  })
}

function figure(
  records: readonly CaseRuns[],
  system: string,
  name: string,
  key: string,
): number | undefined {
  const record = records.find((one) => one.system === system && one.case === name)
  const values = record?.runs.flatMap((run) => (typeof run[key] === 'number' ? [run[key]] : []))
  return values === undefined || values.length === 0 ? undefined : median(values)
}

/** From outside: what is not as expected is an error. */
function parseRecords(text: string): CaseRuns[] {
  const list = JSON.parse(text) as unknown
  const isRecord = (one: unknown): one is CaseRuns =>
    typeof one === 'object' && one !== null && 'case' in one && 'system' in one && 'runs' in one
  if (!Array.isArray(list) || !list.every(isRecord)) throw new Error('these are no runs')
  return list
}

function main(file: string | undefined): number {
  if (file === undefined || file.startsWith('-')) {
    process.stderr.write('usage: node dist/bench/targets.js RUNS.json\n')
    return 2
  }
  try {
    const rows = targetRows(parseRecords(readFileSync(file, 'utf8')))
    process.stdout.write(table(['case', 'target', 'measured', ''], rows))
    return 0
  } catch (error) {
    process.stderr.write(
      `targets: ${file}: ${error instanceof Error ? error.message : String(error)}\n`,
    )
    return 1
  }
}

if (import.meta.filename === process.argv[1]) process.exitCode = main(process.argv[2])
