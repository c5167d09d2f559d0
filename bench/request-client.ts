/**
 * A client of small requests, in a process of its own: each connection sends the next request when it
 * has the whole answer to the last. Its only argument is a RequestLoad as JSON; it prints RequestTimes.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type TLSSocket } from 'node:tls'
import { median, type RequestTimes } from './report.js'

export interface RequestLoad {
  readonly host: string
  readonly port: number
  readonly caFile: string
  readonly connections: number
  readonly seconds: number
  /** The request, as it is on the wire. */
  readonly request: string
}

/** Answers have a Content-Length, and are a success. */
export class AnswerReader {
  #head = ''
  #missing: number | undefined

  /** Whether that was the end of an answer. */
  push(chunk: Buffer): boolean {
    if (this.#missing === undefined) {
      const seen = this.#head.length
      this.#head += chunk.toString('latin1')
      const end = this.#head.indexOf('\r\n\r\n')
      if (end === -1) return false
      this.#missing = lengthOf(this.#head.slice(0, end)) + end + 4 - seen
    }
    this.#missing -= chunk.length
    if (this.#missing > 0) return false
    if (this.#missing < 0) throw new Error('more bytes than were asked for')
    this.#head = ''
    this.#missing = undefined
    return true
  }
}

function lengthOf(head: string): number {
  if (!/^HTTP\/1\.1 2\d\d /.test(head)) throw new Error(`refused: ${head.split('\r\n')[0]}`)
  const length = /^content-length: *(\d+)$/im.exec(head)?.[1]
  if (length === undefined) throw new Error('an answer without Content-Length')
  return Number(length)
}

async function run(load: RequestLoad): Promise<RequestTimes> {
  const ca = readFileSync(load.caFile)
  const sockets = await Promise.all(
    Array.from({ length: load.connections }, async () => {
      const socket = connect({ host: load.host, port: load.port, ca, servername: 'localhost' })
      await once(socket, 'secureConnect')
      return socket.setNoDelay()
    }),
  )
  const times: number[] = []
  const startedMs = performance.now()
  await Promise.all(sockets.map((socket) => ask(socket, load, times)))
  const seconds = (performance.now() - startedMs) / 1000
  const p99Ms = times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? NaN
  return { requests: times.length, seconds, medianMs: median(times), p99Ms }
}

/** Until the time is over. */
function ask(socket: TLSSocket, { seconds, request }: RequestLoad, times: number[]): Promise<void> {
  const reader = new AnswerReader()
  const endMs = performance.now() + seconds * 1000
  let askedMs = performance.now()
  return new Promise((resolve, reject) => {
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the server closed a connection')))
    socket.on('data', (chunk: Buffer) => {
      try {
        if (!reader.push(chunk)) return
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)))
        return
      }
      const nowMs = performance.now()
      times.push(nowMs - askedMs)
      askedMs = nowMs
      if (nowMs < endMs) {
        socket.write(request)
        return
      }
      resolve()
      socket.destroy()
    })
    socket.write(request)
  })
}

if (process.argv[1]?.endsWith('request-client.js')) {
  const load = JSON.parse(process.argv[2] ?? '{}') as RequestLoad
  process.stdout.write(JSON.stringify(await run(load)))
}
