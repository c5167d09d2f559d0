/** The tickets of one daemon or proxy, over its control service. */
import type { ByteRange } from '../../core/tickets/unfinished.js'
import {
  ControlClient,
  ControlError,
  type ControlAddress,
  type ControlTls,
} from '../../core/control/control-client.js'
import {
  HostBusyError,
  HostRefusedError,
  HostUnreachableError,
  TicketRemovedError,
  TicketUnfinishedError,
} from './errors.js'

/** What is installed; the names are those on the wire. */
export interface TicketRequest {
  readonly uuid: string
  readonly size: number
  readonly ops: readonly ('read' | 'write')[]
  readonly timeout: number
  readonly inactivity_timeout: number
  readonly url: string
  readonly transfer_id: string
  readonly sparse: boolean
  /** What has still to come, for a daemon that has no record of the ticket. */
  readonly missing?: readonly ByteRange[]
  /** The first change empties the image before. */
  readonly replace?: boolean
  readonly dirty: boolean
}

/** What a daemon tells of a ticket, as far as it matters here. */
export interface TicketState {
  readonly isActive: boolean
  readonly isCanceled: boolean
  /** Writes that were acknowledged may be lost. */
  readonly isBroken: boolean
  /** Bytes that requests under way have still to write. */
  readonly pending: number
  /** Uploads were cut off, and what is missing was not written since. */
  readonly isUnfinished: boolean
  readonly transferred: number | undefined
  /** Milliseconds since the last operation ended; undefined where the daemon does not say. */
  readonly idleMs: number | undefined
}

export interface TicketControlOptions {
  readonly address: ControlAddress
  /** In messages: 'the proxy' rather than the daemon. */
  readonly peer?: string
  /** Milliseconds for everything but removal. */
  readonly timeoutMs: number
  /** Milliseconds for removal, which the daemon holds until running requests have ended. */
  readonly removeTimeoutMs: number
}

export class TicketControl {
  readonly #options: TicketControlOptions
  #client: ControlClient

  constructor(options: TicketControlOptions) {
    this.#options = options
    this.#client = new ControlClient(options)
  }

  /** Asked over TLS. */
  get usesTls(): boolean {
    const { address } = this.#options
    return 'tls' in address
  }

  /** From the next question on; each is a connection of its own. */
  replaceCertificates(tls: ControlTls): void {
    const { address } = this.#options
    if (!('tls' in address)) return
    this.#client = new ControlClient({ ...this.#options, address: { ...address, tls } })
  }

  /** Installs a ticket, in place of one with its id. */
  async install(ticket: TicketRequest): Promise<void> {
    await this.#ask(() => this.#client.add(ticket.uuid, JSON.stringify(ticket)))
  }

  /** Undefined when there is none. */
  async state(id: string): Promise<TicketState | undefined> {
    const json = await this.#ask(() => this.#client.get(id))
    return json === undefined ? undefined : parseState(json.toString())
  }

  /** False when there is none. */
  async extend(id: string, seconds: number): Promise<boolean> {
    return (await this.#ask(() => this.#client.extend(id, seconds).then(() => true))) ?? false
  }

  /** Resolves when nobody can touch the image by this ticket, until it is installed again. */
  async remove(id: string): Promise<void> {
    await this.#ask(() => this.#client.remove(id))
  }

  /**
   * The same for ever: an installation that nobody waits for any more, and that comes late, is refused.
   * Rejects with TicketUnfinishedError when writes under the ticket are lost or unfinished, unless that is
   * known: `knowsLoss`.
   */
  async removeForGood(id: string, options: { knowsLoss: boolean }): Promise<void> {
    await this.#ask(() => this.#client.removeForGood(id, options))
  }

  async isReachable(): Promise<boolean> {
    return (await this.problem()) === undefined
  }

  /** Why there is no answer. Any will do, whatever it says of the path. */
  async problem(): Promise<string | undefined> {
    try {
      await this.#client.list()
      return undefined
    } catch (error) {
      if (!(error instanceof ControlError)) return String(error)
      return error.statusCode === undefined ? error.message : undefined
    }
  }

  /** Undefined for 404. */
  async #ask<T>(call: () => Promise<T>): Promise<T | undefined> {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof ControlError)) throw error
      const { statusCode, message } = error
      if (statusCode === 404) return undefined
      if (statusCode === undefined) throw new HostUnreachableError(message, { cause: error })
      if (statusCode === 409) throw new HostBusyError(message, { cause: error })
      if (statusCode === 410) throw new TicketRemovedError(message, { cause: error })
      if (statusCode === 412) throw new TicketUnfinishedError(message, { cause: error })
      throw new HostRefusedError(message, { cause: error, isRefusal: statusCode < 500 })
    }
  }
}

function parseState(text: string): TicketState {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw new HostRefusedError('the state of a ticket is not JSON', { cause })
  }
  if (typeof json !== 'object' || json === null) {
    throw new HostRefusedError('the state of a ticket is not an object')
  }
  const fields = new Map<string, unknown>(Object.entries(json))
  const idle = count(fields.get('idle_time'))
  return {
    isActive: fields.get('active') === true,
    isCanceled: fields.get('canceled') === true,
    isBroken: fields.get('broken') === true,
    pending: count(fields.get('pending')) ?? 0,
    isUnfinished: (count(fields.get('unfinished')) ?? 0) > 0,
    transferred: count(fields.get('transferred')),
    idleMs: idle === undefined ? undefined : idle * 1000,
  }
}

function count(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined
}
