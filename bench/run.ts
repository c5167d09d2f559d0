/** npm run bench: see docs/benchmarks.md. */
import { availableParallelism } from 'node:os'
import { MiB } from '../core/units.js'
import { checksumReference, measureChecksums } from './checksum.js'
import { isInstalled } from './command.js'
import {
  DIRECT,
  measureFiles,
  measureH2,
  measureNbd,
  measureProxies,
  OWN_FILES,
  OWN_H1,
} from './comparisons.js'
import { measureExtents } from './extents.js'
import { note } from './note.js'
import { HELP, PACKAGES, parseOptions, UsageError, type BenchOptions } from './options.js'
import { formatFootprint, measureFootprint } from './footprint.js'
import { inPlace, type Place } from './place.js'
import { formatProxies } from './proxy-report.js'
import { formatExtents, formatReport, formatRequests } from './report.js'
import { measureRequests } from './requests.js'
import { formatThreads, measureThreads } from './threads.js'

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  if (options === 'help') {
    process.stdout.write(HELP)
    return
  }
  if (!isInstalled('curl')) throw new Error('curl is not installed')
  for (const [program, reason] of PACKAGES) if (!isInstalled(program)) note(`${program} ${reason}`)
  // Each with servers of its own, so that none finds the memory another has left.
  const files = await atEachStore(options, measureFiles)
  const h2 = await atEachStore(options, measureH2)
  const nbd = await atEachStore(options, measureNbd)
  const proxies = await atEachStore(options, measureProxies)
  const checksums = await atEachStore(options, measureChecksums)
  const extents = await atEachStore(options, measureExtents)
  const requests = await atEachStore(options, measureRequests)
  const threads = await atEachStore(options, measureThreads)

  const footprints = await atEachStore(options, measureFootprint)

  const all = [files, h2, nbd, proxies, checksums, extents, requests, threads, footprints]
  if (all.every((results) => results.length === 0)) {
    throw new UsageError(
      'no case matches --cases and --system with the programs that are installed',
    )
  }
  const { size, runs } = options
  const cpus = availableParallelism()
  print(`${size / MiB} MiB per run, medians of ${runs}, ${cpus} CPUs shared with the clients`)
  if (files.length > 0) print(formatReport(files, { system: 'nginx' }))
  if (h2.length > 0) print(formatReport(h2, { system: OWN_H1 }))
  if (nbd.length > 0) print(formatReport(nbd, { system: OWN_FILES }))
  if (proxies.length > 0) print(formatProxies(proxies, DIRECT))
  if (checksums.length > 0) print(formatReport(checksums, checksumReference()))
  if (extents.length > 0) print(formatExtents(extents))
  if (requests.length > 0) print(formatRequests(requests))
  if (threads.length > 0) print(formatThreads(threads, size))
  if (footprints.length > 0) print(formatFootprint(footprints))
}

async function atEachStore<R>(
  options: BenchOptions,
  measure: (place: Place, options: BenchOptions) => Promise<R[]>,
): Promise<R[]> {
  const results: R[] = []
  for (const store of options.stores) {
    results.push(...(await inPlace(store, (place) => measure(place, options))))
  }
  return results
}

function print(paragraph: string): void {
  process.stdout.write(`\n${paragraph.trimEnd()}\n`)
}

try {
  await main()
} catch (error) {
  note(`bench: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
