/** The client of the control service: one request per connection, as the engine does it. */
import type { RequestOptions } from 'node:http'
import { request as requestTls, type RequestOptions as TlsRequestOptions } from 'node:https'
import { request as requestPlain } from '../http/node-http.js'
import { toJson } from '../json.js'

export type ControlAddress =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number; readonly tls?: ControlTls }

/** Who the client says it is, and whom it believes to be the server. PEM. */
export interface ControlTls {
  readonly ca: Buffer
  readonly cert: Buffer
  readonly key: Buffer
}

export interface ControlClientOptions {
  readonly address: ControlAddress
  /** Whose control service it is, in messages; the daemon's unless given. */
  readonly peer?: string
  /** Milliseconds for a whole request. */
  readonly timeoutMs?: number
  /** Milliseconds for DELETE, which the daemon holds until running operations have ended. */
  readonly removeTimeoutMs?: number
}

/** The daemon could not be asked, or said no. The message is one line. */
export class ControlError extends Error {
  override readonly name = 'ControlError'
  /** Of the daemon's answer; undefined when there was none. */
  readonly statusCode: number | undefined

  constructor(message: string, options: ErrorOptions & { statusCode?: number } = {}) {
    super(message, options)
    this.statusCode = options.statusCode
  }
}

/** Names as on the wire; what is undefined stays. */
export interface TicketChange {
  /** Seconds from now. */
  readonly timeout?: number | undefined
  /** 0 is no limit. */
  readonly max_bytes_per_second?: number | bigint | undefined
}

interface Answer {
  readonly statusCode: number
  readonly body: Buffer
}

const DEFAULT_TIMEOUT_MS = 60_000

export class ControlClient {
  readonly #address: ControlAddress
  readonly #peer: string
  readonly #timeoutMs: number
  readonly #removeTimeoutMs: number

  constructor({ address, peer = 'the daemon', timeoutMs, removeTimeoutMs }: ControlClientOptions) {
    this.#address = address
    this.#peer = peer
    this.#timeoutMs = timeoutMs ?? DEFAULT_TIMEOUT_MS
    this.#removeTimeoutMs = removeTimeoutMs ?? this.#timeoutMs
  }

  /** Installs a ticket. The JSON is sent as it is, so no digit of a large size is lost. */
  async add(id: string, json: string | Uint8Array): Promise<void> {
    await this.#send('PUT', ticketPath(id), this.#timeoutMs, json)
  }

  /** JSON of one ticket. */
  async get(id: string): Promise<Buffer> {
    return this.#send('GET', ticketPath(id), this.#timeoutMs)
  }

  /** JSON array of all tickets, ids shortened. */
  async list(): Promise<Buffer> {
    return this.#send('GET', '/tickets', this.#timeoutMs)
  }

  /** Makes a ticket expire `seconds` from now. */
  async extend(id: string, seconds: number): Promise<void> {
    await this.change(id, { timeout: seconds })
  }

  async change(id: string, change: TicketChange): Promise<void> {
    await this.#send('PATCH', ticketPath(id), this.#timeoutMs, toJson(change))
  }

  /** Cancels and removes; resolves when nothing holds the image any more. */
  async remove(id: string): Promise<void> {
    await this.#send('DELETE', ticketPath(id), this.#removeTimeoutMs)
  }

  /**
   * The same, and a request to install it that is still on its way is refused. Rejects when the ticket's
   * writes are lost or unfinished, unless that is known: `knowsLoss`.
   */
  async removeForGood(id: string, { knowsLoss }: { knowsLoss: boolean }): Promise<void> {
    const path = `${ticketPath(id)}?final=y${knowsLoss ? '&lost=y' : ''}`
    await this.#send('DELETE', path, this.#removeTimeoutMs)
  }

  /** Ends a transfer of signed tickets; resolves when nothing holds the image any more. */
  async revoke(transferId: string): Promise<void> {
    await this.#send('PUT', revocationPath(transferId), this.#removeTimeoutMs)
  }

  async unrevoke(transferId: string): Promise<void> {
    await this.#send('DELETE', revocationPath(transferId), this.#timeoutMs)
  }

  /** JSON array. */
  async revocations(): Promise<Buffer> {
    return this.#send('GET', '/revocations', this.#timeoutMs)
  }

  async #send(
    method: string,
    path: string,
    timeoutMs: number,
    json?: string | Uint8Array,
  ): Promise<Buffer> {
    const headers: Record<string, string | number> = {}
    if (json !== undefined) {
      headers['content-type'] = 'application/json'
      headers['content-length'] = Buffer.byteLength(json)
    }
    const signal = AbortSignal.timeout(timeoutMs)
    const options = {
      ...addressOptions(this.#address),
      agent: false,
      method,
      path,
      headers,
      signal,
    }
    const answer = await exchange(options, json).catch((cause: unknown) => {
      throw this.#unreachable(signal.aborted ? timeoutMs : undefined, cause)
    })
    if (answer.statusCode >= 200 && answer.statusCode < 300) return answer.body
    const text = firstLine(answer.body.toString())
    throw new ControlError(`${answer.statusCode} ${text}`.trimEnd(), answer)
  }

  #unreachable(timeoutMs: number | undefined, cause: unknown): ControlError {
    const place = formatAddress(this.#address)
    if (timeoutMs !== undefined) {
      const seconds = Math.ceil(timeoutMs / 1000)
      return new ControlError(`no answer from ${place} in ${seconds} s`, { cause })
    }
    const reason = reasonOf(cause as NodeJS.ErrnoException, 'tls' in this.#address)
    return new ControlError(`cannot talk to ${this.#peer} at ${place}: ${reason}`, { cause })
  }
}

/** An address for people: an abstract name is written with @. */
export function formatAddress(address: ControlAddress): string {
  if ('port' in address) return `${address.host}:${address.port}`
  return address.socketPath.replace(/^\0/, '@')
}

function addressOptions(address: ControlAddress): RequestOptions | TlsRequestOptions {
  if ('socketPath' in address || address.tls === undefined) return address
  const { host, port, tls } = address
  // The last is said, as Node's default obeys NODE_TLS_REJECT_UNAUTHORIZED of the environment.
  const secure = { minVersion: 'TLSv1.2', rejectUnauthorized: true } as const
  return { protocol: 'https:', host, port, ...tls, ...secure }
}

async function exchange(options: RequestOptions, body?: string | Uint8Array): Promise<Answer> {
  const request = options.protocol === 'https:' ? requestTls : requestPlain
  return new Promise((resolve, reject) => {
    const outgoing = request(options, (incoming) => {
      const chunks: Buffer[] = []
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
      incoming.on('error', reject)
      incoming.on('end', () => {
        resolve({ statusCode: incoming.statusCode ?? 0, body: Buffer.concat(chunks) })
      })
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

function ticketPath(id: string): string {
  // Without an id DELETE would mean every ticket.
  if (id === '') throw new ControlError('the ticket id is empty')
  return `/tickets/${encode(id, 'ticket id')}`
}

function revocationPath(transferId: string): string {
  return `/revocations/${encode(transferId, 'transfer id')}`
}

function encode(id: string, what: string): string {
  try {
    return encodeURIComponent(id)
  } catch (cause) {
    throw new ControlError(`the ${what} is not valid Unicode`, { cause })
  }
}

const REASONS = new Map([
  ['ENOENT', 'no such socket; is it running?'],
  ['ECONNREFUSED', 'nothing listens there; is it running?'],
  ['EACCES', 'permission denied'],
  ['ECONNRESET', 'it closed the connection'],
])

function reasonOf({ code = '', message }: NodeJS.ErrnoException, isTls: boolean): string {
  const reason = REASONS.get(code) ?? firstLine(message || code)
  // With TLS 1.3 who shows the wrong certificate learns it no other way.
  return isTls && code === 'ECONNRESET' ? `${reason}, or this client is not allowed there` : reason
}

/** Without control characters, which a terminal might obey. */
function firstLine(text: string): string {
  const [line = ''] = text.trimStart().split('\n')
  return line.replace(/\p{Cc}/gu, ' ').trimEnd()
}
