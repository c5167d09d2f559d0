/** Checksums of an image by the daemon, beside what a core makes of bytes in memory. */
import { open } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { GiB, MiB } from '../core/units.js'
import { Digest, allocateAligned, hashBlock } from '../native/index.js'
import { isInstalled, outputOf, timeCommands, type Command } from './command.js'
import { cpuSeconds, endedChildrenSeconds } from './cpu.js'
import { curl } from './curl.js'
import { startImageio } from './imageio.js'
import { fill } from './images.js'
import { NbdExports } from './nbd-exports.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import type { Reference, Result, Run } from './report.js'
import { measureRun } from './transfers.js'
import { takeTurns, type Contender } from './turns.js'

const ALGORITHM = 'blake2b'
const BLOCK_SIZE = 4 * MiB

const ONE_CORE = 'BLAKE2b in memory, 1 core'
/** More than the caches of processors hold. */
const MEMORY_SIZE = 256 * MiB

/** What could be had if hashing were all there is to do. */
export function checksumReference(): Reference {
  const cores = availableParallelism()
  return { system: ONE_CORE, times: cores, label: `${cores} × 1 core` }
}

export async function measureChecksums(place: Place, options: BenchOptions): Promise<Result[]> {
  const { size, runs, systems, filter } = options
  const title = `checksum ${place.kind}`
  if (!filter.test(title)) return []
  const file = join(place.store, 'image')
  await fill(file, size)
  const contenders: Contender<Run>[] = []
  if (systems.has('imageio')) contenders.push(...(await daemon(place, file, size)), memory(size))
  if (systems.has('b2sum') && isInstalled('b2sum')) contenders.push(b2sum(file))
  const outcomes = await takeTurns(title, contenders, runs)
  return outcomes.map(({ name, runs }) => ({ title, system: name, size, runs }))
}

async function daemon(place: Place, file: string, size: number): Promise<Contender<Run>[]> {
  const { pid, offer } = await startImageio(place)
  const expected = await checksum(file, size)
  const contender = async (name: string, url: string, exports?: NbdExports) => {
    const where = (await offer(url, size, 'GET'))('unix', '/checksum')
    const command = curl(where)
    return {
      name,
      verify: async () => {
        const answer: unknown = JSON.parse((await outputOf(command)).toString())
        const isRight = (answer as { checksum?: unknown }).checksum === expected
        if (!isRight) throw new Error(`${name}: wrong checksum`)
      },
      run: () => run({ cpuSeconds: () => cpuSeconds(pid), ...served(exports) }, command),
    }
  }
  const contenders = [await contender('imageio file', `file://${file}`)]
  if (isInstalled('qemu-nbd')) {
    const exports = new NbdExports(place.dir)
    place.atEnd(() => exports.close())
    const { url } = await exports.open(file, { direction: 'GET' })
    contenders.push(await contender('imageio NBD', url, exports))
  }
  return contenders
}

function served(exports: NbdExports | undefined): { exportCpuSeconds?: () => number } {
  return exports === undefined ? {} : { exportCpuSeconds: () => exports.cpuSeconds() }
}

/** The daemon's own code on bytes that are there already, on one thread. */
function memory(size: number): Contender<Run> {
  const bytes = allocateAligned(Math.min(size, MEMORY_SIZE)).fill(0x5a)
  return {
    name: ONE_CORE,
    verify: () => Promise.resolve(),
    run: async () => {
      const digest = new Digest(ALGORITHM)
      const before = process.cpuUsage()
      const startedMs = performance.now()
      for (let done = 0; done < size;) {
        const start = done % bytes.length
        const block = bytes.subarray(start, start + Math.min(BLOCK_SIZE, size - done))
        await digest.update(block)
        done += block.length
      }
      const seconds = (performance.now() - startedMs) / 1000
      const { user, system } = process.cpuUsage(before)
      return { seconds, cpuSeconds: (user + system) / 1e6 }
    },
  }
}

/** coreutils: another hash of the same family and the same work, in one thread. */
function b2sum(file: string): Contender<Run> {
  return {
    name: 'b2sum',
    verify: () => Promise.resolve(),
    run: () => run({ cpuSeconds: endedChildrenSeconds }, { program: 'b2sum', args: [file] }),
  }
}

function run(system: Parameters<typeof measureRun>[0], command: Command): Promise<Run> {
  return measureRun(system, () => timeCommands([command]))
}

/** As docs/api.md defines it, block by block. */
async function checksum(path: string, size: number): Promise<string> {
  const file = await open(path)
  try {
    const outer = new Digest(ALGORITHM)
    const block = allocateAligned(BLOCK_SIZE)
    for (let offset = 0; offset < size;) {
      const { bytesRead } = await file.read(block, 0, BLOCK_SIZE, offset)
      if (bytesRead === 0) throw new Error(`${path} has ${offset / GiB} GiB only`)
      await outer.update(await hashBlock(ALGORITHM, block.subarray(0, bytesRead)))
      offset += bytesRead
    }
    return outer.finish().toString('hex')
  } finally {
    await file.close()
  }
}
