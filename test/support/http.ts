/** Short requests through Node's own clients, over HTTP/1.1 and HTTP/2. */
import http from 'node:http'
import http2, { type ClientHttp2Session } from 'node:http2'
import https from 'node:https'
import type { Target } from './wire.js'
import { within } from './wait.js'

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly text: string
  readonly json: unknown
}

export interface Ask {
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  /** Without one each request has its own connection, closed after it. */
  readonly agent?: http.Agent
  readonly timeoutMs?: number
}

/** Rejects when the response does not come completely. */
export function request(
  target: Target,
  method: string,
  url: string,
  ask: Ask = {},
): Promise<Reply> {
  const { headers = {}, body, agent = false, timeoutMs = 20_000 } = ask
  const isChunked = headers['transfer-encoding'] !== undefined
  const length =
    body === undefined || isChunked ? {} : { 'content-length': Buffer.byteLength(body) }
  const options: https.RequestOptions = {
    method,
    path: url,
    agent,
    headers: { ...length, ...headers },
    ...('path' in target ? { socketPath: target.path } : target),
  }
  const isTls = 'ca' in target
  const reply = new Promise<Reply>((resolve, reject) => {
    const onResponse = (response: http.IncomingMessage): void => {
      collect(response).then(
        (received) => resolve(replyOf(response.statusCode ?? 0, response.headers, received)),
        reject,
      )
    }
    const sent = isTls ? https.request(options, onResponse) : http.request(options, onResponse)
    sent.on('error', reject)
    sent.end(body)
  })
  return within(`${method} ${url.slice(0, 40)}`, timeoutMs, reply)
}

/** An agent that keeps one connection. */
export function keepAlive(target: Target): http.Agent {
  const isTls = 'ca' in target
  const options = { keepAlive: true, maxSockets: 1 }
  return isTls ? new https.Agent(options) : new http.Agent(options)
}

export async function openH2(target: Target): Promise<ClientHttp2Session> {
  if ('path' in target) throw new Error('HTTP/2 is served over TLS only')
  const { host, port, ca = '' } = target
  const session = http2.connect(`https://${host}:${port}`, { ca })
  session.on('error', () => undefined)
  const connected = new Promise((resolve) => session.once('connect', resolve))
  await within('HTTP/2 session', 5000, connected)
  return session
}

export function requestH2(
  session: ClientHttp2Session,
  method: string,
  url: string,
  { headers = {}, body, timeoutMs = 20_000 }: Ask = {},
): Promise<Reply> {
  const reply = new Promise<Reply>((resolve, reject) => {
    const fields = { ...headers, ':method': method, ':path': url }
    const stream = session.request(fields, { endStream: body === undefined })
    let fieldsOf: http.IncomingHttpHeaders = {}
    let status = 0
    const chunks: Buffer[] = []
    stream.on('response', (received) => {
      fieldsOf = received
      status = received[':status'] ?? 0
    })
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('error', reject)
    stream.on('close', () => {
      const received = Buffer.concat(chunks)
      const announced = method === 'HEAD' ? undefined : fieldsOf['content-length']
      if (announced !== undefined && received.length < Number(announced)) {
        reject(new Error(`the body ended after ${received.length} of ${announced} bytes`))
      } else if (status === 0) {
        reject(new Error('the stream was closed without a response'))
      } else {
        resolve(replyOf(status, fieldsOf, received))
      }
    })
    if (body !== undefined) stream.end(body)
  })
  return within(`${method} over HTTP/2`, timeoutMs, reply)
}

async function collect(response: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function replyOf(status: number, fields: http.IncomingHttpHeaders, body: Buffer): Reply {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(fields)) {
    if (!name.startsWith(':')) headers[name] = String(value)
  }
  const text = body.toString()
  return {
    status,
    headers,
    body,
    text,
    get json(): unknown {
      return JSON.parse(text) as unknown
    },
  }
}
