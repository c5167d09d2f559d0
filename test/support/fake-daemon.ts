/** Something at a daemon's address that counts connections and says whatever a test wants. */
import net, { type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'
import { until } from './wait.js'

export interface Asked {
  readonly method: string
  readonly path: string
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly head: string
  readonly socket: Socket
  /** What came of the body until now. */
  body(): Buffer
}

export type Script = (asked: Asked, count: number) => void

export interface FakeDaemon {
  readonly port: number
  readonly url: string
  /** Connections there have ever been. */
  connections(): number
  /** Those that are open. */
  open(): number
  readonly asked: readonly Asked[]
  /** The n-th request, once it is there. */
  when(count: number): Promise<Asked>
}

/** Each head that arrives is given to `script`; bodies are collected. */
export async function startFakeDaemon(t: Test, script: Script): Promise<FakeDaemon> {
  const asked: Asked[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  const server = net.createServer((socket) => {
    connections++
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    let received = Buffer.alloc(0)
    let current: { left: number; chunks: Buffer[] } | undefined
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      for (;;) {
        if (current !== undefined && current.left > 0) {
          const part = received.subarray(0, current.left)
          current.chunks.push(part)
          current.left -= part.length
          received = received.subarray(part.length)
          if (current.left > 0) return
        }
        const end = received.indexOf('\r\n\r\n')
        if (end < 0) return
        const head = received.toString('latin1', 0, end)
        received = received.subarray(end + 4)
        const chunks: Buffer[] = []
        const one = parse(head, socket, () => Buffer.concat(chunks))
        const isChunked = one.headers.get('transfer-encoding') !== undefined
        const length = Number(one.headers.get('content-length') ?? 0)
        current = { left: isChunked ? Infinity : length, chunks }
        asked.push(one)
        script(one, asked.length)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    connections: () => connections,
    open: () => sockets.size,
    asked,
    when: (count) => until(`request ${count}`, () => asked[count - 1]),
  }
}

function parse(head: string, socket: Socket, body: () => Buffer): Asked {
  const [line = '', ...fields] = head.split('\r\n')
  const [method = '', path = ''] = line.split(' ')
  const headers = new Map(
    fields.map((field) => {
      const colon = field.indexOf(':')
      return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()] as const
    }),
  )
  return { method, path, headers, head, socket, body }
}
