/** A front that dials, the server it dials, and responses whose bodies are withheld. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import net, { type AddressInfo, type Socket } from 'node:net'
import tls from 'node:tls'
import type { Test } from 'tap'
import { CIPHERS } from '../../core/http/tls.js'
import { KiB } from '../../core/units.js'
import { Transport } from '../../native/transport.js'
import { testPki } from '../support/pki.js'
import { until, within } from '../support/wait.js'

export const BODY = 300 * KiB

export interface Dialed {
  readonly id: number
  /** The HTTP client's end. */
  readonly socket: Socket
  readonly addresses: readonly (string | undefined)[]
  /** What the client has got. */
  readonly text: () => string
}

interface Options {
  readonly isTls?: boolean
  readonly server?: tls.TlsOptions
  readonly host?: string
  readonly addresses?: readonly string[]
  readonly authorities?: string
}

export interface Fixture {
  readonly transport: Transport
  readonly server: net.Server
  /** Resolves when it is open, rejects when it will not be. */
  readonly dial: (options?: Options) => Promise<Dialed>
  /** The server's socket of the next connection. */
  readonly next: () => Promise<Socket>
  readonly events: string[]
  readonly ids: number[]
}

/** A front that dials a server, which does what the test says. */
export async function dialing(t: Test, fixed: Options = {}): Promise<Fixture> {
  const { isTls = true } = fixed
  const { keyFile, certFile, ca } = testPki()
  const key = readFileSync(keyFile)
  const cert = readFileSync(certFile)
  const sockets: Socket[] = []
  const onSocket = (socket: Socket): void => {
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
    sockets.push(socket)
  }
  const server = isTls
    ? tls.createServer({ key, cert, ...fixed.server }, onSocket)
    : net.createServer({ allowHalfOpen: true }, onSocket)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const transport = new Transport(3)
  t.teardown(() => transport.close())
  const events: string[] = []
  const ids: number[] = []
  const dial = ({ host = 'localhost', addresses, authorities }: Options = {}): Promise<Dialed> =>
    new Promise((resolve, reject) => {
      const trust = transport.trust({
        authorities: authorities ?? ca,
        key: '',
        cert: '',
        ciphers: CIPHERS,
      })
      const to = {
        addresses: addresses ?? fixed.addresses ?? ['127.0.0.1'],
        port,
        ...(isTls ? { tls: { trust, host, serverName: net.isIP(host) === 0 ? host : '' } } : {}),
      }
      let socket: Socket | undefined
      const id = transport.dial(to, {
        opened: (fd, ...ends) => {
          const chunks: Buffer[] = []
          socket = new net.Socket({ fd, allowHalfOpen: true })
          socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined)
          socket.on('end', () => events.push('end'))
          t.teardown(() => socket?.destroy())
          const text = (): string => Buffer.concat(chunks).toString('latin1')
          resolve({ id, socket, addresses: ends, text })
        },
        failed: reject,
        reset: (reason) => {
          events.push(reason)
          socket?.destroy()
        },
        closed: () => {
          events.push('closed')
          reject(new Error('closed'))
        },
      })
      ids.push(id)
    })
  let taken = 0
  const next = (): Promise<Socket> => {
    const index = taken++
    return until('the server has its socket', () => sockets[index])
  }
  return { transport, server, dial, next, events, ids }
}

export const REQUEST = 'GET /images/a HTTP/1.1\r\nHost: h\r\n\r\n'
export const response = (size: number, more = ''): string =>
  `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\nETag: "1"\r\n${more}\r\n`

/** Asks for something whose body is to be withheld, and has the server answer. */
export async function ask(
  { transport }: Fixture,
  client: Dialed,
  server: Socket,
  answer: string | Buffer,
): Promise<void> {
  const asked = once(server, 'data')
  transport.withholdNext(client.id, client.socket.bytesRead)
  client.socket.write(REQUEST)
  await within('the request', 5000, asked)
  server.write(answer)
}

/** The number of the response whose body was withheld, of the first one or of another. */
export async function withheld(
  { transport }: Fixture,
  { text }: Dialed,
  size: number,
  index = 0,
): Promise<number> {
  const field = new RegExp(`x-imageio-withheld: ${transport.token}\\.(\\d+) ${size}\\r\\n`, 'g')
  const found = await until('the head', () => [...text().matchAll(field)][index])
  return Number(found[1])
}
