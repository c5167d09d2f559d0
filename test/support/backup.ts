/** What backup software does with the images API: copies of data only, and of what has changed. */
import type { Agent } from 'node:http'
import { copyFile, open, type FileHandle } from 'node:fs/promises'
import { keepAlive, request, type Reply } from './http.js'
import { run } from './tools.js'
import type { Target } from './wire.js'

export interface ImageExtent {
  readonly start: number
  readonly length: number
  readonly zero: boolean
  readonly hole?: boolean
  readonly dirty?: boolean
}

export interface Incremental {
  /** What has changed, and nothing else, where it belongs. */
  readonly file: string
  readonly dirty: readonly ImageExtent[]
}

/** One request each, so that no backup of a test is done in one. */
const PIECE_SIZE = 1024 * 1024

/** One image over one connection. */
export class BackupClient {
  readonly #target: Target
  readonly #url: string
  readonly #agent: Agent
  /** Offsets and sizes that were downloaded. */
  readonly fetched: (readonly [number, number])[] = []
  /** Awaited before each download. */
  onPiece: (offset: number) => Promise<void> = async () => undefined

  constructor(target: Target, url: string) {
    this.#target = target
    this.#url = url
    this.#agent = keepAlive(target)
  }

  async extents(context: 'zero' | 'dirty'): Promise<ImageExtent[]> {
    const headers = { accept: 'application/x-ndjson' }
    const reply = await this.#ask('GET', `/extents?context=${context}`, { headers })
    const lines = reply.text.split('\n').slice(0, -1)
    return lines.map((line) => JSON.parse(line) as ImageExtent)
  }

  /** Into a sparse file. */
  async full(file: string): Promise<void> {
    const extents = await this.extents('zero')
    await this.#fetch(
      file,
      sizeOf(extents),
      extents.filter(({ zero }) => !zero),
    )
  }

  async incremental(file: string): Promise<Incremental> {
    const extents = await this.extents('dirty')
    const dirty = extents.filter((extent) => extent.dirty)
    await this.#fetch(
      file,
      sizeOf(extents),
      dirty.filter(({ zero }) => !zero),
    )
    return { file, dirty }
  }

  async checksum(): Promise<string> {
    const reply = await this.#ask('GET', '/checksum')
    return (reply.json as { checksum: string }).checksum
  }

  close(): void {
    this.#agent.destroy()
  }

  async #fetch(file: string, size: number, extents: readonly ImageExtent[]): Promise<void> {
    const handle = await open(file, 'w')
    try {
      await handle.truncate(size)
      for (const { start, length } of extents) {
        for (let offset = start; offset < start + length; offset += PIECE_SIZE) {
          const wanted = Math.min(PIECE_SIZE, start + length - offset)
          await this.onPiece(offset)
          await this.#fetchPiece(handle, offset, wanted)
        }
      }
    } finally {
      await handle.close()
    }
  }

  async #fetchPiece(handle: FileHandle, offset: number, size: number): Promise<void> {
    const headers = { range: `bytes=${offset}-${offset + size - 1}` }
    const { status, body } = await this.#ask('GET', '', { headers })
    if (status !== 206 || body.length !== size) throw new Error(`${status}, ${body.length} bytes`)
    await handle.write(body, 0, size, offset)
    this.fetched.push([offset, size])
  }

  async #ask(method: string, path: string, ask = {}): Promise<Reply> {
    const options = { agent: this.#agent, ...ask }
    const reply = await request(this.#target, method, this.#url + path, options)
    if (reply.status >= 400) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`)
    return reply
  }
}

/** The disk as it was: a full backup with incremental ones over it, oldest first. */
export async function restore(
  file: string,
  full: string,
  incrementals: readonly Incremental[],
): Promise<void> {
  await copyFile(full, file)
  for (const incremental of incrementals) await apply(file, incremental)
}

/** Whether two images, of any format qemu detects, have the same content; rejects if not. */
export async function compareImages(a: string, b: string): Promise<void> {
  await run('qemu-img', ['compare', '-U', a, b])
}

async function apply(file: string, { file: source, dirty }: Incremental): Promise<void> {
  const from = await open(source)
  const to = await open(file, 'r+')
  try {
    for (const { start, length, zero } of dirty) {
      const content = Buffer.alloc(length)
      if (!zero) await from.read(content, 0, length, start)
      await to.write(content, 0, length, start)
    }
  } finally {
    await to.close()
    await from.close()
  }
}

function sizeOf(extents: readonly ImageExtent[]): number {
  const last = extents.at(-1)
  return last === undefined ? 0 : last.start + last.length
}
