/** The arguments of the benchmark, and its help. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import { MiB } from '../core/units.js'

export interface BenchOptions {
  /** Bytes moved or hashed in one run, by all streams together. */
  readonly size: number
  /** Counted runs; one more comes first to verify and warm up. */
  readonly runs: number
  /** Directories whose file systems are measured. */
  readonly stores: readonly string[]
  readonly systems: ReadonlySet<string>
  /** How many the longest list has. */
  readonly extents: number
  /** Of a run of small requests. */
  readonly seconds: number
  /** Which cases. */
  readonly filter: RegExp
}

export const HELP = `Measures imageio-daemon beside other programs, and prints a table for each kind of case, with medians:
  GET and PUT     files, 1 and 4 streams, TLS and Unix socket, beside nginx
  HTTP/2 GET, PUT over TLS, beside the same over HTTP/1.1
  NBD GET and PUT the same on qemu-nbd, beside the daemon's own file path and nbdcopy
  proxy GET, PUT  imageio-proxy over TLS, beside nginx and HAProxy before the same daemon
  checksum        file and NBD, beside what a core hashes in memory and b2sum
  extents         of 8 TiB and of a long list, file and NBD, beside nbdinfo and qemu-img
  requests        GET of 4 KiB, zero, OPTIONS, on 1 and 8 connections; OPTIONS beside transfers; nginx
  memory          of the daemon with 200 and 1000 idle connections, and with 1, 4 and 16 streams
  threads         which part of the work of 1, 2 and 4 streams each thread of the daemon has

Usage: npm run bench -- [OPTIONS]

Options:
  --size MIB     moved or hashed in one run by all streams together (default 1024)
  --runs N       counted runs of each case (default 5)
  --store DIR    directory to keep images in; may be repeated (default /dev/shm)
  --system NAME  imageio, imageio-plain (files, [transport] native = off), imageio-proxy,
                 imageio-proxy-plain, nginx, haproxy, nbdcopy, b2sum, nbdinfo or qemu-img; may be
                 repeated (default all)
  --extents N    how many the longest list has (default 1000000)
  --seconds N    of a run of small requests (default 3)
  --cases REGEX  only the cases that match, such as '^GET ×4', 'NBD.*TLS', 'checksum' (default all)
  -h, --help     this text

A store needs four times the size, or 2 KiB for each extent if that is more. docs/benchmarks.md says how to read the
result.
Exit status: 0 done, 1 something failed, 2 wrong arguments.
`

export class UsageError extends Error {
  override readonly name = 'UsageError'
}

const SYSTEMS = [
  ...['imageio', 'imageio-plain', 'imageio-proxy', 'imageio-proxy-plain', 'nginx', 'haproxy'],
  ...['nbdcopy', 'b2sum', 'nbdinfo', 'qemu-img'],
]

/** What is said of a program that is not here. */
export const PACKAGES: readonly (readonly [program: string, reason: string])[] = [
  ['nginx', 'is not installed and skipped (Debian: nginx-light)'],
  ['haproxy', 'is not installed and skipped (Debian: haproxy)'],
  ['h2load', 'is not installed: no HTTP/2 (Debian: nghttp2-client)'],
  ['qemu-nbd', 'is not installed: no NBD, no extents (Debian: qemu-utils)'],
  ['nbdcopy', 'is not installed and skipped, with nbdinfo (Debian: libnbd-bin)'],
]

const OPTIONS = {
  size: { type: 'string', default: '1024' },
  runs: { type: 'string', default: '5' },
  store: { type: 'string', multiple: true, default: ['/dev/shm'] },
  system: { type: 'string', multiple: true, default: SYSTEMS },
  extents: { type: 'string', default: '1000000' },
  seconds: { type: 'string', default: '3' },
  cases: { type: 'string', default: '' },
  help: { type: 'boolean', short: 'h', default: false },
} as const satisfies ParseArgsOptionsConfig

/** Throws UsageError. */
export function parseOptions(argv: readonly string[]): BenchOptions | 'help' {
  const values = parse(argv)
  if (values.help) return 'help'
  const unknown = values.system.find((name) => !SYSTEMS.includes(name))
  if (unknown !== undefined) {
    throw new UsageError(`--system must be one of ${SYSTEMS.join(', ')}, not ${unknown}`)
  }
  return {
    // A multiple of 4 streams' blocks, so that every image has the same size.
    size: positive('--size', values.size) * MiB,
    runs: positive('--runs', values.runs),
    stores: values.store,
    systems: new Set(values.system),
    extents: positive('--extents', values.extents),
    seconds: seconds(values.seconds),
    filter: pattern(values.cases),
  }
}

function seconds(text: string): number {
  const value = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : 0
  if (value > 0) return value
  throw new UsageError('--seconds must be positive, at most three digits behind the point')
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
