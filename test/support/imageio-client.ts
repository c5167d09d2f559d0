/**
 * The data side of oVirt's client library and of virt-v2v: Python's http.client, up to four connections,
 * each kept alive; data in ranges, zeroes as PATCH, and a flush on each connection at the end. What it
 * moves is always the guest's data.
 */
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { testPki } from './pki.js'
import { Wire, type WireResponse } from './wire.js'

const KiB = 1024
const PIECE = 256 * KiB
const ZEROES = Buffer.alloc(PIECE)
const MAX_CONNECTIONS = 4

interface ImageOptions {
  readonly unix_socket?: string
  readonly features: readonly string[]
  readonly max_readers: number
  readonly max_writers: number
}

interface Extent {
  readonly start: number
  readonly length: number
  readonly zero: boolean
}

/** One connection. */
class Connection {
  readonly #wire: Wire
  readonly #host: string
  readonly path: string

  private constructor(wire: Wire, url: URL) {
    this.#wire = wire
    this.#host = url.host
    this.path = url.pathname
  }

  static async open(t: Test, url: URL, socket?: string): Promise<Connection> {
    const { ca } = testPki()
    const remote = { host: url.hostname, port: Number(url.port), ca }
    const wire = await Wire.open(socket === undefined ? remote : { path: socket })
    if (socket === undefined) wire.socket.setNoDelay(true) // as Python does
    t.teardown(() => wire.destroy())
    return new Connection(wire, url)
  }

  async ask(method: string, more = '', headers = '', body?: Buffer): Promise<WireResponse> {
    const length = body === undefined ? '' : `Content-Length: ${body.length}\r\n`
    const head =
      `${method} ${this.path}${more} HTTP/1.1\r\nHost: ${this.#host}\r\n` +
      `Accept-Encoding: identity\r\n${headers}${length}\r\n`
    await this.#wire.send(head)
    if (body !== undefined) await this.#wire.send(body)
    return this.#wire.response()
  }

  patch(fields: object): Promise<WireResponse> {
    const body = Buffer.from(JSON.stringify(fields))
    return this.ask('PATCH', '', 'Content-Type: application/json\r\n', body)
  }

  close(): void {
    this.#wire.destroy()
  }
}

/** Statuses have to be exactly these, or the real ones fail. */
export class ImageioClient {
  readonly #t: Test
  readonly #url: URL
  readonly #connections: Connection[]
  readonly options: ImageOptions

  private constructor(t: Test, url: URL, options: ImageOptions, connections: Connection[]) {
    this.#t = t
    this.#url = url
    this.options = options
    this.#connections = connections
  }

  /** Over the Unix socket that OPTIONS told when it is a client of the host itself. */
  static async open(t: Test, transferUrl: string, isOnHost = false): Promise<ImageioClient> {
    const url = new URL(transferUrl)
    const first = await Connection.open(t, url)
    const { status, text } = await first.ask('OPTIONS')
    t.equal(status, 200)
    const options = JSON.parse(text) as ImageOptions
    if (isOnHost) first.close()
    const socket = isOnHost ? options.unix_socket : undefined
    const connections = isOnHost ? [] : [first]
    const most = Math.min(options.max_readers, options.max_writers, MAX_CONNECTIONS)
    while (connections.length < most) connections.push(await Connection.open(t, url, socket))
    return new ImageioClient(t, url, options, connections)
  }

  /** Throws what the server answered when that is not what clients need. */
  async upload(data: Buffer): Promise<void> {
    await this.write(data)
    await this.flush()
  }

  /** Nothing is flushed. */
  async write(data: Buffer): Promise<void> {
    await this.#each(data.length, async (connection, offset, size) => {
      const piece = data.subarray(offset, offset + size)
      const isZero = piece.equals(ZEROES.subarray(0, size))
      const reply = isZero
        ? await connection.patch({ op: 'zero', offset, size, flush: false })
        : await connection.ask('PUT', '?flush=n', range(offset, size), piece)
      expect(reply, 200)
    })
  }

  async flush(): Promise<void> {
    for (const connection of this.#connections) {
      expect(await connection.patch({ op: 'flush' }), 200)
    }
  }

  /** Data by ranges, and nothing for what the extents say is zero. */
  async download(size: number): Promise<Buffer> {
    const [first] = this.#connections
    const reply = await first!.ask('GET', '/extents?context=zero')
    this.#t.equal(reply.status, 200)
    const extents = JSON.parse(reply.text) as Extent[]
    const last = extents.at(-1)
    this.#t.equal((last?.start ?? 0) + (last?.length ?? 0), size, 'extents cover the image')
    const data = Buffer.alloc(size)
    for (const { start, length, zero } of extents) {
      if (zero) continue
      await this.#each(length, async (connection, offset, size) => {
        ;(await read(connection, start + offset, size)).copy(data, start + offset)
      })
    }
    return data
  }

  async read(offset: number, size: number): Promise<Buffer> {
    return read(this.#connections[0]!, offset, size)
  }

  async checksum(): Promise<{ checksum: string; algorithm: string }> {
    const reply = await this.#connections[0]!.ask('GET', '/checksum')
    expect(reply, 200)
    return JSON.parse(reply.text) as { checksum: string; algorithm: string }
  }

  async sendOptions(): Promise<number> {
    return (await this.#connections[0]!.ask('OPTIONS')).status
  }

  get path(): string {
    return this.#url.pathname
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
  }

  /** Pieces, one after the other on each connection. */
  async #each(
    size: number,
    work: (connection: Connection, offset: number, size: number) => Promise<void>,
  ): Promise<void> {
    let next = 0
    const run = async (connection: Connection): Promise<void> => {
      while (next < size) {
        const offset = next
        next += PIECE
        await work(connection, offset, Math.min(PIECE, size - offset))
      }
    }
    await Promise.all(this.#connections.map(run))
  }
}

function range(offset: number, size: number): string {
  return `Content-Range: bytes ${offset}-${offset + size - 1}/*\r\n`
}

async function read(connection: Connection, offset: number, size: number): Promise<Buffer> {
  const reply = await connection.ask('GET', '', `Range: bytes=${offset}-${offset + size - 1}\r\n`)
  expect(reply, 206)
  return reply.body
}

function expect({ status, text }: WireResponse, wanted: number): void {
  if (status !== wanted) throw new Error(`${status} instead of ${wanted}: ${text.slice(0, 200)}`)
}

/** As oVirt's library does it: `client.upload(FILE, URL)` of a raw file. */
export async function uploadTo(t: Test, url: string, data: Buffer): Promise<void> {
  const client = await ImageioClient.open(t, url)
  await client.upload(data)
  client.close()
}

export async function downloadFrom(t: Test, url: string, size: number): Promise<Buffer> {
  const client = await ImageioClient.open(t, url)
  const data = await client.download(size)
  client.close()
  return data
}

/** `curl --upload-file FILE -X PUT URL`, without the curl. */
export async function putFileTo(t: Test, url: string, file: string): Promise<void> {
  const connection = await Connection.open(t, new URL(url))
  expect(await connection.ask('PUT', '', '', readFileSync(file)), 200)
  connection.close()
}
