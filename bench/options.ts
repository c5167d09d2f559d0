/** The arguments of the benchmark, and its help. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'

export interface BenchOptions {
  /** Bytes moved in one run, by all streams together. */
  readonly size: number
  /** Counted runs; one more comes first to verify and warm up. */
  readonly runs: number
  /** Directories whose file systems are measured. */
  readonly stores: readonly string[]
  readonly systems: readonly string[]
  /** Which cases. */
  readonly filter: RegExp
}

export const HELP = `Compares imageio-daemon with nginx: downloads and uploads by 1 and 4 streams, over TLS and a Unix
socket. Prints medians of throughput and of server CPU seconds per GiB.

Usage: npm run bench -- [OPTIONS]

Options:
  --size MIB     moved in one run by all streams together (default 1024)
  --runs N       counted runs of each case (default 5)
  --store DIR    directory to keep images in; may be repeated (default /dev/shm)
  --system NAME  imageio or nginx; may be repeated (default both)
  --cases REGEX  only the cases that match, such as 'GET ×4' (default all)
  -h, --help     this text

A store needs three times the size. docs/benchmarks.md says how to read the result.
Exit status: 0 done, 1 something failed, 2 wrong arguments.
`

export class UsageError extends Error {
  override readonly name = 'UsageError'
}

const SYSTEMS = ['imageio', 'nginx']

const OPTIONS = {
  size: { type: 'string', default: '1024' },
  runs: { type: 'string', default: '5' },
  store: { type: 'string', multiple: true, default: ['/dev/shm'] },
  system: { type: 'string', multiple: true, default: SYSTEMS },
  cases: { type: 'string', default: '' },
  help: { type: 'boolean', short: 'h', default: false },
} as const satisfies ParseArgsOptionsConfig

/** Throws UsageError. */
export function parseOptions(argv: readonly string[]): BenchOptions | 'help' {
  const values = parse(argv)
  if (values.help) return 'help'
  const unknown = values.system.find((name) => !SYSTEMS.includes(name))
  if (unknown !== undefined) throw new UsageError(`--system ${unknown}: imageio or nginx`)
  return {
    // A multiple of 4 streams' blocks, so that every image has the same size.
    size: positive('--size', values.size) * 2 ** 20,
    runs: positive('--runs', values.runs),
    stores: values.store,
    systems: values.system,
    filter: pattern(values.cases),
  }
}

function positive(name: string, text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text)
  throw new UsageError(`${name} must be a positive number`)
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS }).values
  } catch (cause) {
    const [reason = ''] = (cause as Error).message.split(/\.?\s*\n|\. /)
    throw new UsageError(reason, { cause })
  }
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text)
  } catch (cause) {
    throw new UsageError('--cases must be a regular expression', { cause })
  }
}
