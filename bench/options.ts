/** The arguments of the benchmark, and its help. */
import { parseArgs } from 'node:util'

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
`

const SYSTEMS = ['imageio', 'nginx']

/** Throws an Error that says what is wrong. */
export function parseOptions(argv: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      size: { type: 'string', default: '1024' },
      runs: { type: 'string', default: '5' },
      store: { type: 'string', multiple: true, default: ['/dev/shm'] },
      system: { type: 'string', multiple: true, default: SYSTEMS },
      cases: { type: 'string', default: '' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return 'help'
  const unknown = values.system.find((name) => !SYSTEMS.includes(name))
  if (unknown !== undefined) throw new Error(`--system ${unknown}: imageio or nginx`)
  return {
    // A multiple of 4 streams' blocks, so that every image has the same size.
    size: positive('--size', values.size) * 2 ** 20,
    runs: positive('--runs', values.runs),
    stores: values.store,
    systems: values.system,
    filter: new RegExp(values.cases),
  }
}

function positive(name: string, text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text)
  throw new Error(`${name} must be a positive number`)
}
