/**
 * Which file behind an image lacks its end, after a copy that was interrupted: qemu opens most such images,
 * and reads zeroes where the data would be.
 */
import { stat } from 'node:fs/promises'
import { isCutQcow2 } from '../core/formats/qcow2-end.js'
import { findLine, Late } from './qemu-tools.js'
import { StartError } from './start-error.js'

/** An image of a chain. */
export interface Layer {
  readonly name: string
  readonly format: string
  readonly subformat: string
  /** 0 if it has none. */
  readonly clusterSize: number
  /** The files that hold its data, one behind the other as the guest sees them. */
  readonly parts: readonly Part[]
}

export interface Part {
  readonly name: string
  /** Of the guest's data. */
  readonly size: number
}

export interface Found {
  /** The first that lacks its end. */
  readonly cutFile?: string
  /** Not all was looked at: there is too much of it. */
  readonly isUnsure?: true
}

/** A list of terabytes in pieces is long, and whoever started it waits. */
const TIMEOUT_MS = 5000
const SECTOR_SIZE = 512

/** The chain from its top. Of what is no file of this machine nothing is known. Throws StartError. */
export async function findCutFile(
  layers: readonly Layer[],
  { cwd, timeoutMs = TIMEOUT_MS }: { readonly cwd: string; readonly timeoutMs?: number },
): Promise<Found> {
  for (const { name, format } of layers) {
    if (format === 'qcow2' && (await isCutQcow2(name).catch(() => false))) return { cutFile: name }
  }
  const sizes = await sizesOf(layers.flatMap(({ parts }) => parts.map(({ name }) => name)))
  // A raw layer that was cut is a smaller disk. Refcounts tell of all others' clusters but the last.
  const isKnown = ({ name, format, clusterSize, parts }: Layer): boolean =>
    format === 'raw' ||
    (format === 'qcow2' && parts[0]?.name === name && (sizes.get(name) ?? 0) % clusterSize === 0)
  const unknown = layers.filter((layer) => !isKnown(layer))
  if (unknown.length === 0) return {}
  try {
    const options = { cwd, timeoutMs }
    const cutFile =
      (await findInMap(layers, sizes, options)) ?? (await findCompressed(layers, options))
    return cutFile === undefined ? {} : { cutFile }
  } catch (error) {
    if (error instanceof Late) return { isUnsure: true }
    throw error
  }
}

interface Options {
  readonly cwd: string
  readonly timeoutMs: number
}

/** By the list of all extents, which has the place of each in its file. */
async function findInMap(
  layers: readonly Layer[],
  sizes: ReadonlyMap<string, number>,
  options: Options,
): Promise<string | undefined> {
  const [top] = layers
  if (!top) return undefined
  const args = ['map', '--output=json', '-f', top.format, top.name]
  const cutFile = (line: string): string | undefined => {
    for (const [text] of line.matchAll(/\{[^{}]*\}/g)) {
      const extent = JSON.parse(text) as Extent
      const layer = layers[extent.depth]
      // What reads as zeroes may have a place that was never written.
      if (!layer || layer.format === 'raw' || !extent.data || extent.offset === undefined) continue
      const name = partAt(layer, extent.start)
      const size = name === undefined ? undefined : sizes.get(name)
      if (size !== undefined && extent.offset + extent.length > size) return name
    }
    return undefined
  }
  const { found, said } = await findLine('qemu-img', args, { ...options, find: cutFile })
  if (said !== '') {
    throw new StartError(
      `${top.name}: qemu cannot tell where its data lies: ${said}; it is damaged, perhaps its end is missing; --raw serves the file's own bytes`,
    )
  }
  return found
}

interface Extent {
  readonly start: number
  readonly length: number
  readonly depth: number
  readonly data: boolean
  readonly offset?: number
}

function partAt({ parts }: Layer, start: number): string | undefined {
  let end = 0
  return parts.find(({ size }) => start < (end += size))?.name
}

/** qemu does not tell where compressed data lies, but its check of a vmdk compares it with the end. */
async function findCompressed(
  layers: readonly Layer[],
  options: Options,
): Promise<string | undefined> {
  for (const { name, format, subformat } of layers) {
    if (format !== 'vmdk' || subformat !== 'streamOptimized') continue
    const args = ['check', '-f', format, name]
    const { said } = await findLine('qemu-img', args, { ...options, find: () => undefined })
    if (said.includes('points after EOF')) return name
  }
  return undefined
}

/** In whole sectors, as the guest sees them. Of files alone: a device ends where it does. */
async function sizesOf(names: readonly string[]): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for (const name of names) {
    const status = await stat(name).catch(() => undefined)
    if (status?.isFile()) sizes.set(name, Math.ceil(status.size / SECTOR_SIZE) * SECTOR_SIZE)
  }
  return sizes
}
