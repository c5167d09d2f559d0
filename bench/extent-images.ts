/** Images whose map is worth a measurement. */
import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { GiB, KiB } from '../core/units.js'

export interface ExtentImage {
  readonly size: number
  readonly extents: number
  /** The image as a raw file. */
  readonly file: string
  /** The same as an NBD server gets it. */
  readonly exported: string
  readonly format: 'raw' | 'qcow2'
}

export interface ExtentImageKind {
  /** For titles. */
  readonly name: string
  /** Makes the files, in `store`. */
  readonly create: (store: string) => ExtentImage
}

const LARGE = 8 * 1024 * GiB
/** Of data, where a large image has any. */
const FIRST = 64 * KiB
const BLOCK = 4 * KiB

/** `many` is how many extents the last one has. */
export function extentImageKinds(many: number): readonly ExtentImageKind[] {
  return [
    { name: 'empty 8 TiB', create: (store) => large(store, 0) },
    { name: 'data first 8 TiB', create: (store) => large(store, FIRST) },
    { name: String(many), create: (store) => alternating(store, many) },
  ]
}

/** Data, if any, and then nothing: as a sparse file and as qcow2. */
function large(store: string, dataSize: number): ExtentImage {
  const file = join(store, 'large.raw')
  const exported = join(store, 'large.qcow2')
  writeBlocks(file, LARGE, dataSize, dataSize === 0 ? 0 : 1)
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', exported, String(LARGE)])
  if (dataSize > 0) execFileSync('qemu-io', ['-c', `write -q 0 ${dataSize}`, exported])
  return { file, exported, format: 'qcow2', size: LARGE, extents: dataSize === 0 ? 1 : 2 }
}

/** Data and holes in turn, as small as file systems have them. */
function alternating(store: string, extents: number): ExtentImage {
  const file = join(store, 'alternating.raw')
  const size = extents * BLOCK
  writeBlocks(file, size, BLOCK, Math.ceil(extents / 2))
  return { file, exported: file, format: 'raw', size, extents }
}

/** `count` blocks of data, a hole of the same size after each. */
function writeBlocks(path: string, size: number, blockSize: number, count: number): void {
  const block = Buffer.alloc(blockSize, 'data')
  const fd = openSync(path, 'w')
  try {
    ftruncateSync(fd, size)
    for (let index = 0; index < count; index++) {
      writeSync(fd, block, 0, blockSize, 2 * index * blockSize)
    }
  } finally {
    closeSync(fd)
  }
}
