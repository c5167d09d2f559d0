/** npm run bench: see docs/benchmarks.md. */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { chmod, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MiB } from '../core/units.js'
import { preparePki } from '../start/pki.js'
import { cpuSeconds } from './cpu.js'
import { startImageio } from './imageio.js'
import { runLoad } from './load.js'
import { startNginx } from './nginx.js'
import { HELP, parseOptions, UsageError, type BenchOptions } from './options.js'
import { formatReport, type Result, type Run } from './report.js'
import type { Direction, System, Transport } from './system.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

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

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') {
    process.stdout.write(HELP)
    return
  }
  const systems = options.systems.filter((name) => {
    if (name !== 'nginx' || isInstalled('nginx')) return true
    note('nginx is not installed and skipped (Debian: nginx-light)')
    return false
  })
  if (!isInstalled('curl')) throw new Error('curl is not installed')
  const results: Result[] = []
  for (const store of options.stores) {
    results.push(...(await measureStore(store, { ...options, systems })))
  }
  const cpus = availableParallelism()
  process.stdout.write(
    `\n${options.size / MiB} MiB per run, medians of ${options.runs}, ${cpus} CPUs shared with curl\n\n`,
  )
  process.stdout.write(formatReport(results))
}

async function measureStore(parent: string, options: BenchOptions): Promise<Result[]> {
  const dir = await mkdtemp(join(tmpdir(), 'imageio-bench-'))
  const store = await mkdtemp(join(parent, 'imageio-bench-'))
  await chmod(store, 0o755)
  const systems: System[] = []
  try {
    const caDir = join(root, '.dev', 'pki')
    const pki = await preparePki({ caDir, runDir: dir, name: 'localhost' })
    for (const name of options.systems) {
      const start = name === 'nginx' ? startNginx(dir, store, pki) : startImageio(root, dir, pki)
      systems.push(await start)
    }
    const results: Result[] = []
    const kind = fileSystem(store)
    for (const one of CASES) {
      const title = `${one.direction} ×${one.streams} ${one.transport} ${kind}`
      if (!options.filter.test(title)) continue
      results.push(...(await measureCase(one, title, { ...options, store, systems })))
    }
    return results
  } finally {
    for (const system of systems) await system.stop()
    await rm(store, { recursive: true, force: true })
    await rm(dir, { recursive: true, force: true })
  }
}

interface Setting {
  readonly size: number
  readonly runs: number
  readonly store: string
  readonly systems: readonly System[]
}

/** Systems take turns in every round, so that what disturbs the machine disturbs both. */
async function measureCase(one: Case, title: string, setting: Setting): Promise<Result[]> {
  const { runs, store, systems } = setting
  const imageSize = setting.size / one.streams
  const payload = join(store, 'payload')
  await fill(payload, imageSize)
  const prepared = await Promise.all(
    systems.map(async (system) => {
      const files = Array.from({ length: one.streams }, (_, index) =>
        join(store, `${one.direction === 'GET' ? 'image' : system.name}-${index}`),
      )
      // All files exist in full, as volumes do. Downloads of both systems read the same ones; what
      // is overwritten must differ, or an upload that does nothing would be verified.
      for (const file of files) {
        if (one.direction === 'PUT') await fill(file, imageSize)
        else await copyOnce(payload, file)
      }
      const done: Run[] = []
      return { system, targets: await system.serve(files, one.direction), done }
    }),
  )
  for (let round = 0; round <= runs; round++) {
    for (const { system, targets, done } of prepared) {
      const isTrial = round === 0
      const file = one.direction === 'PUT' ? payload : isTrial ? join(store, 'check') : '/dev/null'
      execFileSync('sync')
      const before = cpuSeconds(system.pid)
      // In the trial one stream after the other, each compared with what it should be.
      const loads = isTrial ? targets.map((target) => [target]) : [targets]
      for (const some of loads) {
        const seconds = await runLoad({ ...one, targets: some, file })
        if (!isTrial) done.push({ seconds, cpuSeconds: cpuSeconds(system.pid) - before })
        else verify(payload, one.direction === 'GET' ? file : (some[0]?.file ?? ''))
      }
      note(`${title} ${system.name}: ${isTrial ? 'verified' : `run ${round} of ${runs}`}`)
    }
  }
  for (const { targets } of prepared) {
    for (const { file } of targets) await rm(file, { force: true })
  }
  await rm(join(store, 'check'), { force: true })
  const { size } = setting
  return prepared.map(({ system, done }) => ({ title, system: system.name, size, runs: done }))
}

/** Noise: nobody can take it for zeroes or compress it. */
async function fill(path: string, size: number): Promise<void> {
  const file = await open(path, 'w')
  try {
    const buffer = Buffer.alloc(MiB)
    for (let offset = 0; offset < size; offset += buffer.length) {
      randomFillSync(buffer)
      await file.write(buffer, 0, Math.min(buffer.length, size - offset), offset)
    }
  } finally {
    await file.close()
  }
}

async function copyOnce(from: string, to: string): Promise<void> {
  if (await stat(to).catch(() => undefined)) return
  // Not copyFile(), which shares blocks where the file system can.
  execFileSync('cp', ['--reflink=never', '--sparse=never', from, to])
}

function verify(expected: string, found: string): void {
  const { status, stdout, stderr } = spawnSync('cmp', [expected, found], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`wrong bytes: ${(stdout || stderr).trim()}`)
}

function fileSystem(path: string): string {
  return execFileSync('stat', ['-f', '-c', '%T', path], { encoding: 'utf8' })
    .trim()
    .replace('ext2/ext3', 'ext4')
}

function isInstalled(program: string): boolean {
  const { error } = spawnSync(program, ['-V'], { stdio: 'ignore' })
  return error === undefined
}

function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

try {
  await main()
} catch (error) {
  note(`bench: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
