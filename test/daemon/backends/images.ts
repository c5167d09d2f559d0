/** Images the tests of backends work on. */
import { open, readFile, writeFile } from 'node:fs/promises'
import { statfsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Backend, Extent } from '../../../daemon/backends/backend.js'
import { ImageStates } from '../../../daemon/backends/image-states.js'
import { openFile, type OpenOptions } from '../../../daemon/backends/open.js'

/** linux/magic.h */
const TMPFS_MAGIC = 0x01021994

/** Opens for writing and closes at the end of the test. */
export async function openImage(
  t: Test,
  path: string,
  options: Partial<OpenOptions> = {},
): Promise<Backend> {
  const backend = await openFile(`file://${path}`, {
    writable: true,
    maxConnections: 8,
    allowedPaths: [],
    images: new ImageStates(),
    ...options,
  })
  t.teardown(() => backend.close())
  return backend
}

/** A directory on tmpfs, or why there is none. */
export async function tmpfsDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp('/dev/shm/imageio-test-')
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

export function withoutTmpfs(): string | false {
  try {
    return statfsSync('/dev/shm').type === TMPFS_MAGIC ? false : '/dev/shm is no tmpfs'
  } catch {
    return 'no /dev/shm'
  }
}

let files = 0

/** A new file with this content, or of this size and all hole. */
export async function imageFile(directory: string, content: Buffer | number): Promise<string> {
  const path = join(directory, `image-${files++}`)
  await writeFile(path, typeof content === 'number' ? '' : content)
  if (typeof content === 'number') {
    const file = await open(path, 'r+')
    await file.truncate(content)
    await file.close()
  }
  return path
}

/** Bytes that are never zero and differ from block to block. */
export function pattern(size: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  for (let index = 0; index < size; index++)
    bytes[index] = 1 + ((index * 7 + (index >> 9) * 13 + seed * 31) % 255)
  return bytes
}

export async function collect(pages: AsyncIterable<readonly Extent[]>): Promise<Extent[]> {
  const all: Extent[] = []
  for await (const page of pages) all.push(...page)
  return all
}

/** The whole image, as the backend reads it. */
export async function etagOf(backend: Backend): Promise<string | undefined> {
  return (await backend.facts()).etag
}

export async function readAll(backend: Backend): Promise<Buffer> {
  const buffer = Buffer.alloc(await backend.size())
  const got = await backend.pread(buffer, 0)
  return buffer.subarray(0, got)
}

/** Says where two buffers differ first; undefined when they don't. */
export function difference(found: Buffer, wanted: Buffer): string | undefined {
  if (found.equals(wanted)) return undefined
  if (found.length !== wanted.length) return `${found.length} bytes instead of ${wanted.length}`
  const at = found.findIndex((byte, index) => byte !== wanted[index])
  return `byte ${at}: ${found[at]} instead of ${wanted[at]}`
}

/** What the file holds, read past the page cache's back by nobody: plain buffered reads. */
export const content = readFile

/** Deterministic numbers, so that a failing run can be repeated: mulberry32. */
export function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}
