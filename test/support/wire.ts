/** A client that sends and receives exact bytes: framing cannot be tested through a tidy library. */
import net from 'node:net'
import tls from 'node:tls'
import { within } from './wait.js'

/** Where a service listens. With `ca` it speaks TLS. */
export type Target =
  { readonly path: string } | { readonly host: string; readonly port: number; readonly ca?: string }

export interface WireResponse {
  readonly version: string
  readonly status: number
  /** Lower-case names; repeated fields joined by a comma. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly text: string
}

const TIMEOUT_MS = 10_000

export class Wire {
  readonly socket: net.Socket
  /** Below TLS; else the same. */
  readonly #tcp: net.Socket
  #received: Buffer[] = []
  #size = 0
  #isEnded = false
  #wake: (() => void)[] = []

  private constructor({ socket, tcp }: Connected, isReading: boolean) {
    this.socket = socket
    this.#tcp = tcp
    tcp.on('error', () => this.#end())
    socket.on('error', () => this.#end())
    socket.on('end', () => this.#end())
    socket.on('close', () => this.#end())
    if (isReading) this.read()
  }

  /** Without `isReading` nothing is taken from the socket until read() is called. */
  static async open(target: Target, { isReading = true, alpn = 'http/1.1' } = {}): Promise<Wire> {
    const connected = connect(target, alpn)
    const { socket } = connected
    const event = socket instanceof tls.TLSSocket ? 'secureConnect' : 'connect'
    const opened = new Promise<void>((resolve, reject) => {
      socket.once(event, () => resolve())
      socket.once('error', reject)
    })
    await within('connection', TIMEOUT_MS, opened)
    return new Wire(connected, isReading)
  }

  read(): void {
    this.socket.on('data', (chunk: Buffer) => {
      this.#received.push(chunk)
      this.#size += chunk.length
      this.#notify()
    })
  }

  /** Resolves when the bytes are handed to the kernel; false when the connection is gone. */
  send(bytes: string | Buffer): Promise<boolean> {
    return new Promise((resolve) => {
      this.socket.write(bytes, (error) => resolve(error === undefined || error === null))
    })
  }

  /** Whether the other end has closed, or reset, the connection. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Bytes received and not yet taken. */
  get size(): number {
    return this.#size
  }

  /** Ends our direction only. */
  end(): void {
    this.socket.end()
  }

  destroy(): void {
    this.socket.destroy()
  }

  /** Closes so that the other end loses what it has not read: by TCP's reset. */
  reset(): void {
    this.#tcp.resetAndDestroy()
  }

  /** Sends a request and takes its response. */
  async ask(
    bytes: string,
    options: { isHead?: boolean; timeoutMs?: number } = {},
  ): Promise<WireResponse> {
    await this.send(bytes)
    return this.response(options)
  }

  /** The next response. Rejects when the connection ends before it is complete. */
  async response({ isHead = false, timeoutMs = TIMEOUT_MS } = {}): Promise<WireResponse> {
    return within('response', timeoutMs, this.#response(isHead))
  }

  /** Everything until the other end closes. */
  async rest(timeoutMs = TIMEOUT_MS): Promise<Buffer> {
    await within(
      'end of the connection',
      timeoutMs,
      this.#until(() => this.#isEnded),
    )
    return this.take(this.#size)
  }

  /** Whether the connection ends in time, with nothing more than what was taken. */
  async isClosedSilently(timeoutMs = TIMEOUT_MS): Promise<boolean> {
    return (await this.rest(timeoutMs)).length === 0
  }

  /** Removes bytes that have been received. */
  take(size: number): Buffer {
    const all = Buffer.concat(this.#received)
    this.#received = [all.subarray(size)]
    this.#size = all.length - size
    return all.subarray(0, size)
  }

  /** All that is here, left where it is. */
  peek(): string {
    return Buffer.concat(this.#received).toString()
  }

  /** Waits until so many bytes are here. */
  async has(size: number, timeoutMs = TIMEOUT_MS): Promise<void> {
    await within(
      `${size} bytes`,
      timeoutMs,
      this.#until(() => this.#size >= size),
    )
  }

  async #response(isHead: boolean): Promise<WireResponse> {
    const head = await this.#head()
    const [first = '', ...lines] = head.split('\r\n')
    const [version = '', code = ''] = first.split(' ')
    const headers: Record<string, string> = {}
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon).toLowerCase()
      const value = line.slice(colon + 1).trim()
      headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
    }
    const status = Number(code)
    const hasNone = isHead || status < 200 || status === 204 || status === 304
    const body = hasNone ? Buffer.alloc(0) : await this.#body(headers)
    return { version, status, headers, body, text: body.toString() }
  }

  async #head(): Promise<string> {
    let end = -1
    await this.#until(() => {
      end = Buffer.concat(this.#received).indexOf('\r\n\r\n')
      return end >= 0 || this.#isEnded
    })
    if (end < 0) throw new Error(`the connection ended after ${this.#size} bytes of a header`)
    return this.take(end + 4).toString('latin1', 0, end)
  }

  async #body(headers: Readonly<Record<string, string>>): Promise<Buffer> {
    const { 'content-length': length, 'transfer-encoding': coding } = headers
    if (coding === 'chunked') return this.#chunks()
    const wanted = length === undefined ? Infinity : Number(length)
    await this.#until(() => this.#size >= wanted || this.#isEnded)
    if (length === undefined) return this.take(this.#size)
    if (this.#size < wanted)
      throw new Error(`the body ended after ${this.#size} of ${length} bytes`)
    return this.take(wanted)
  }

  async #chunks(): Promise<Buffer> {
    const chunks: Buffer[] = []
    for (;;) {
      const line = await this.#line()
      const size = parseInt(line, 16)
      await this.#until(() => this.#size >= size + 2 || this.#isEnded)
      if (this.#size < size + 2) throw new Error('the connection ended within a chunk')
      chunks.push(this.take(size))
      this.take(2)
      if (size === 0) return Buffer.concat(chunks)
    }
  }

  async #line(): Promise<string> {
    let end = -1
    await this.#until(() => {
      end = Buffer.concat(this.#received).indexOf('\r\n')
      return end >= 0 || this.#isEnded
    })
    if (end < 0) throw new Error('the connection ended within a chunk')
    return this.take(end + 2).toString('latin1', 0, end)
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#isEnded) {
      await new Promise<void>((resolve) => this.#wake.push(resolve))
    }
  }

  #end(): void {
    this.#isEnded = true
    this.#notify()
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}

interface Connected {
  readonly socket: net.Socket
  readonly tcp: net.Socket
}

function connect(target: Target, alpn: string): Connected {
  if ('path' in target) return bare(net.connect({ path: target.path }))
  const { host, port, ca } = target
  const tcp = net.connect({ host, port })
  if (ca === undefined) return bare(tcp)
  return { socket: tls.connect({ socket: tcp, host, ca, ALPNProtocols: [alpn] }), tcp }
}

function bare(tcp: net.Socket): Connected {
  return { socket: tcp, tcp }
}
