/** How soon the map of an image comes, and what memory it takes to tell it. */
import { rm } from 'node:fs/promises'
import { isInstalled, outputOf, timeOutput, type Command, type OutputTimes } from './command.js'
import { curl } from './curl.js'
import { extentImageKinds, type ExtentImage } from './extent-images.js'
import { startImageio, type Imageio } from './imageio.js'
import { peakMiB, restartPeak } from './memory.js'
import { NbdExports } from './nbd-exports.js'
import type { BenchOptions } from './options.js'
import type { Place } from './place.js'
import type { ExtentsResult, ExtentsRun } from './report.js'
import { takeTurns, type Contender } from './turns.js'

export async function measureExtents(
  place: Place,
  options: BenchOptions,
): Promise<ExtentsResult[]> {
  const results: ExtentsResult[] = []
  if (!isInstalled('qemu-nbd')) return results
  const wanted = extentImageKinds(options.extents)
    .map((kind) => ({ kind, title: `extents ${kind.name} ${place.kind}` }))
    .filter(({ title }) => options.filter.test(title))
  if (wanted.length === 0) return results
  const exports = new NbdExports(place.dir)
  const imageio = options.systems.has('imageio') ? await startImageio(place) : undefined
  place.atEnd(() => exports.close())
  for (const { kind, title } of wanted) {
    const image = kind.create(place.store)
    const { url, uri } = await exports.open(image.exported, {
      direction: 'GET',
      format: image.format,
    })
    const contenders: Contender<ExtentsRun>[] = []
    if (imageio !== undefined) {
      contenders.push(await daemon('imageio NBD', imageio, image, url))
      contenders.push(await daemon('imageio file', imageio, image, `file://${image.file}`))
    }
    const others = tools(uri, image).filter(({ name }) => options.systems.has(name))
    const outcomes = await takeTurns(title, [...contenders, ...others], options.runs)
    const { extents } = image
    results.push(...outcomes.map(({ name, runs }) => ({ title, system: name, extents, runs })))
    await exports.close()
    for (const file of [image.file, image.exported]) await rm(file, { force: true })
  }
  return results
}

async function daemon(
  name: string,
  { pid, offer }: Imageio,
  { size, extents }: ExtentImage,
  url: string,
): Promise<Contender<ExtentsRun>> {
  const where = (await offer(url, size, 'GET'))('TLS', '/extents')
  let beforeMiB = NaN
  let firstPeakMiB = NaN
  return {
    name,
    verify: async () => {
      // Memory grows the first time, so this round counts as well.
      beforeMiB = restartPeak(pid)
      const found = JSON.parse((await outputOf(curl(where))).toString()) as readonly unknown[]
      if (found.length !== extents) throw new Error(`${name}: ${found.length} extents`)
      firstPeakMiB = peakMiB(pid)
    },
    run: async () => {
      restartPeak(pid)
      const times = await timeCurl(where)
      const memory = { beforeMiB, peakMiB: Math.max(firstPeakMiB, peakMiB(pid)) }
      return { ...times, memory }
    },
  }
}

/** As curl has measured them: its own start does not count. */
async function timeCurl(where: readonly string[]): Promise<OutputTimes> {
  const format = '%{time_starttransfer} %{time_total}'
  const output = await outputOf(curl(where, '-o', '/dev/null', '-w', format))
  const [first = NaN, last = NaN] = output.toString().split(' ').map(Number)
  return { firstMs: first * 1000, lastMs: last * 1000 }
}

/** Of the same export. Their own start counts, some milliseconds. */
function tools(uri: string, { extents }: ExtentImage): Contender<ExtentsRun>[] {
  const commands: readonly Command[] = [
    { program: 'nbdinfo', args: ['--map', '--json', uri] },
    { program: 'qemu-img', args: ['map', '--output=json', '-f', 'raw', uri] },
  ]
  return commands
    .filter(({ program }) => isInstalled(program))
    .map((command) => ({
      name: command.program,
      verify: async () => {
        const found = JSON.parse((await outputOf(command)).toString()) as readonly unknown[]
        if (found.length < extents) throw new Error(`${command.program}: ${found.length} extents`)
      },
      run: () => timeOutput(command),
    }))
}
