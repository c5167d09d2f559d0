/** An NBD server that does what a test says, right or wrong: every byte it sends is the test's. */
import {
  createServer,
  type AddressInfo,
  type ListenOptions,
  type Server,
  type Socket,
} from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export interface NbdRequest {
  readonly magic: number
  readonly flags: number
  readonly type: number
  readonly cookie: Buffer
  readonly offset: number
  readonly length: number
  readonly payload: Buffer
}

export interface ExportFacts {
  readonly size?: number
  readonly flags?: number
  readonly structured?: boolean
  /** Grants extended headers, and speaks with them from then on. */
  readonly extended?: boolean
  /** Names granted, with ids from 1. */
  readonly contexts?: readonly string[]
  /** Minimum, preferred, maximum. */
  readonly blockSizes?: readonly [number, number, number]
}

/** HAS_FLAGS, FLUSH, WRITE_ZEROES. */
export const USUAL_FLAGS = 1 | 4 | 64
export const GREETING = Buffer.from('4e42444d4147494349484156454f50540001', 'hex')

const WRITE = 1
export const ACK = 1
export const UNSUPPORTED = 0x80000001

/** Bytes from numbers of 8 to 64 bits: ['u16', 1, 'u32', 5, buffer]. */
export function pack(...parts: (Buffer | string | number)[]): Buffer {
  const all: Buffer[] = []
  for (let at = 0; at < parts.length; at++) {
    const part = parts[at]!
    if (typeof part !== 'string') {
      if (typeof part === 'number') throw new Error('a number without its width')
      all.push(part)
      continue
    }
    const bits = Number(part.slice(1))
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64BE(BigInt(parts[++at] as number))
    all.push(bytes.subarray(8 - bits / 8))
  }
  return Buffer.concat(all)
}

export class Peer {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #isEnded = false
  #isExtended = false
  #wake: () => void = () => undefined

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    socket.on('close', () => {
      this.#isEnded = true
      this.#wake()
    })
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Rejects when the client has gone. */
  async read(size: number): Promise<Buffer> {
    while (this.#received.length < size) {
      if (this.#isEnded) throw new Error('the client has gone')
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    const bytes = this.#received.subarray(0, size)
    this.#received = this.#received.subarray(size)
    return bytes
  }

  send(...parts: (Buffer | string | number)[]): void {
    if (!this.#isEnded) this.#socket.write(pack(...parts))
  }

  hangUp(): void {
    this.#socket.destroy()
  }

  async option(): Promise<{ option: number; data: Buffer }> {
    const header = await this.read(16)
    return { option: header.readUInt32BE(8), data: await this.read(header.readUInt32BE(12)) }
  }

  reply(option: number, type: number, data: Buffer = Buffer.alloc(0)): void {
    const magic = Buffer.from('0003e889045565a9', 'hex')
    this.send(magic, 'u32', option, 'u32', type, 'u32', data.length, data)
  }

  /** A tidy negotiation until transmission. Resolves with the options the client sent. */
  async handshake(facts: ExportFacts = {}): Promise<number[]> {
    const { size = 1024 * 1024, flags = USUAL_FLAGS, structured = true, contexts = [] } = facts
    this.#isExtended = facts.extended ?? false
    this.send(GREETING)
    await this.read(4)
    const seen: number[] = []
    for (;;) {
      const { option } = await this.option()
      seen.push(option)
      if (option === 11) this.reply(option, this.#isExtended ? ACK : UNSUPPORTED)
      else if (option === 8) this.reply(option, structured ? ACK : UNSUPPORTED)
      else if (option === 9 || option === 10) {
        contexts.forEach((name, index) => {
          if (option === 9 && !name.includes('bitmap')) return
          this.reply(option, 4, pack('u32', option === 9 ? 0 : index + 1, Buffer.from(name)))
        })
        this.reply(option, ACK)
      } else if (option === 7) {
        this.reply(option, 3, pack('u16', 0, 'u64', size, 'u16', flags))
        const { blockSizes } = facts
        if (blockSizes !== undefined) {
          const [minimum, preferred, maximum] = blockSizes
          const sizes = pack('u16', 3, 'u32', minimum, 'u32', preferred, 'u32', maximum)
          this.reply(option, 3, sizes)
        }
        this.reply(option, ACK)
        return seen
      } else this.reply(option, UNSUPPORTED)
    }
  }

  async request(): Promise<NbdRequest> {
    const header = await this.read(this.#isExtended ? 32 : 28)
    const type = header.readUInt16BE(6)
    const length = this.#isExtended ? Number(header.readBigUInt64BE(24)) : header.readUInt32BE(24)
    return {
      magic: header.readUInt32BE(0),
      flags: header.readUInt16BE(4),
      type,
      cookie: Buffer.from(header.subarray(8, 16)),
      offset: Number(header.readBigUInt64BE(16)),
      length,
      payload: Buffer.from(type === WRITE ? await this.read(length) : []),
    }
  }

  simple({ cookie }: { cookie: Buffer }, errno = 0, data: Buffer = Buffer.alloc(0)): void {
    this.send('u32', 0x67446698, 'u32', errno, cookie, data)
  }

  chunk(
    { cookie, offset }: { cookie: Buffer; offset: number },
    flags: number,
    type: number,
    payload: Buffer,
  ): void {
    const size = payload.length
    if (this.#isExtended) {
      const lengths = pack('u64', offset, 'u64', size)
      this.send('u32', 0x6e8a278c, 'u16', flags, 'u16', type, cookie, lengths, payload)
    } else {
      this.send('u32', 0x668e33ef, 'u16', flags, 'u16', type, cookie, 'u32', size, payload)
    }
  }

  /** A data chunk; the last one when `isDone`. */
  data(request: NbdRequest, offset: number, data: Buffer, isDone = true): void {
    this.chunk(request, isDone ? 1 : 0, 1, pack('u64', offset, data))
  }

  hole(request: NbdRequest, offset: number, size: number, isDone = true): void {
    this.chunk(request, isDone ? 1 : 0, 2, pack('u64', offset, 'u32', size))
  }

  /** Extents of one context: [length, value] each. */
  status(request: NbdRequest, id: number, extents: [number, number][], isDone = true): void {
    const flags = isDone ? 1 : 0
    if (this.#isExtended) {
      const pairs = extents.map(([length, value]) => pack('u64', length, 'u64', value))
      this.chunk(request, flags, 6, pack('u32', id, 'u32', extents.length, ...pairs))
    } else {
      const pairs = extents.map(([length, value]) => pack('u32', length, 'u32', value))
      this.chunk(request, flags, 5, pack('u32', id, ...pairs))
    }
  }
}

/** Listens on a Unix socket; `script` runs for each client. Resolves with the ticket's URL. */
export async function scriptedServer(t: Test, script: Script): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'imageio-nbd-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'socket')
  await listen(t, script, { path })
  return `nbd:unix:${path}`
}

/** The same on loopback. Resolves with the port. */
export async function scriptedTcpServer(t: Test, script: Script): Promise<number> {
  const server = await listen(t, script, { host: '127.0.0.1', port: 0 })
  return (server.address() as AddressInfo).port
}

type Script = (peer: Peer) => Promise<void>

function listen(t: Test, script: Script, where: ListenOptions): Promise<Server> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    // A client that hangs up in the middle of a script is what many tests want.
    script(new Peer(socket)).catch(() => undefined)
  })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return new Promise((resolve) => server.listen(where, () => resolve(server)))
}
