/**
 * From a ticket to its daemon. Connections are kept per ticket and end with it: nothing of one transfer
 * is ever sent on a connection of another, and a canceled ticket leaves none behind.
 */
import type http from 'node:http'
import https from 'node:https'
import { isIP } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import type { Transport, TrustHandle } from '../native/transport.js'
import { request as requestPlain } from '../core/http/node-http.js'
import type { Logger } from '../core/log.js'
import { logFields } from '../core/tickets/store.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { createAgent, createFrontAgent, dropStale, retire } from './agents.js'
import type { BodyMemory } from './body-memory.js'
import { DaemonRequest, type Deadlines } from './daemon-request.js'
import { parseDaemonUrl, type DaemonUrl, type UrlRules } from './daemon-url.js'
import { DaemonBusyError, DaemonUnreachableError } from './errors.js'
import { findLocalSocket, LocalSocketError } from './local-socket.js'
import { frontTrust } from './trust.js'
import { Turns } from './turns.js'
import { OWN_VIA } from './via.js'

export interface UpstreamOptions extends UrlRules {
  readonly connectMs: number
  readonly silenceMs: number
  /** How long work may take that has no end one could foresee. */
  readonly workMs: number
  readonly usesLocalSocket: boolean
  /** Of one ticket at a time. */
  readonly maxConnections: number
  readonly logger: Logger
}

export interface DaemonCall {
  readonly method: string
  /** Behind the path of the ticket's URL: '/extents?context=zero'. */
  readonly suffix?: string
  readonly headers: http.OutgoingHttpHeaders
  /** The answer comes after work of unknown length. */
  readonly isWork?: boolean
  /** A GET whose body may go around Node, when it is large. */
  readonly takesWithheld?: boolean
  /** Taken before anything is sent, so that who gets none has troubled no daemon. */
  readonly memory?: BodyMemory
}

/** Connections of one ticket are dialed so. */
interface Dialing {
  readonly trust: SecureContextOptions
  /** By the native front, not by Node. */
  readonly front?: { readonly transport: Transport; readonly trust: TrustHandle }
}

export class Upstreams {
  readonly #options: UpstreamOptions
  readonly #byTicket = new WeakMap<Ticket, Upstream>()
  #transport: Transport | undefined
  #dialing: Dialing

  constructor(options: UpstreamOptions, trust: SecureContextOptions) {
    this.#options = options
    this.#dialing = { trust }
  }

  /** From now on the native front connects to daemons. */
  dialWith(transport: Transport): void {
    this.#transport = transport
    this.replaceTrust(this.#dialing.trust)
  }

  /** For connections of tickets not used yet. */
  replaceTrust(trust: SecureContextOptions): void {
    const transport = this.#transport
    this.#dialing =
      transport === undefined
        ? { trust }
        : { trust, front: { transport, trust: transport.trust(frontTrust(trust)) } }
  }

  /** Throws when the ticket's URL is not allowed, or the ticket is canceled. */
  of(ticket: Ticket): Upstream {
    ticket.canceled.throwIfAborted()
    let upstream = this.#byTicket.get(ticket)
    if (upstream === undefined) {
      upstream = new Upstream(ticket, this.#options, this.#dialing)
      this.#byTicket.set(ticket, upstream)
    }
    return upstream
  }
}

/** Plain, over the daemon's Unix socket. */
interface LocalWay {
  readonly agent: http.Agent
  readonly socketPath: string
}

export class Upstream {
  readonly url: DaemonUrl
  /** An upload has told the daemon that somebody would ask for the flush later. */
  hasSkippedFlush = false
  readonly #ticket: Ticket
  readonly #options: UpstreamOptions
  readonly #agent: http.Agent
  readonly #dialing: Dialing
  readonly #turns: Turns
  #local: LocalWay | undefined
  /** Requests over the socket. */
  readonly #overSocket = new WeakMap<DaemonRequest, LocalWay>()
  #looking: Promise<void> | undefined

  constructor(ticket: Ticket, options: UpstreamOptions, dialing: Dialing) {
    this.url = parseDaemonUrl(ticket.definition.url, options)
    this.#ticket = ticket
    this.#options = options
    this.#dialing = dialing
    this.#agent = this.#createAgent(this.url.isTls)
    this.#turns = new Turns({
      limit: options.maxConnections,
      waitMs: options.connectMs,
      late: () => new DaemonBusyError(),
    })
    ticket.canceled.addEventListener('abort', () => this.#close(), { once: true })
  }

  /** Resolves when it is known which way requests go. Rejects when there is no daemon to be asked. */
  async ready(): Promise<void> {
    if (!this.#options.usesLocalSocket) return
    this.#looking ??= this.#look()
    await this.#looking
  }

  /**
   * Begins a request, when there is a connection for it; `end()` or `write()` of what is returned sends
   * it. Rejects with DaemonBusyError, BuffersBusyError, or the reason of `signal`, and holds no memory then.
   */
  async begin(call: DaemonCall, signal: AbortSignal): Promise<DaemonRequest> {
    const { memory } = call
    memory?.release() // that of an attempt before: who waits holds none
    // First the turn: one ticket's requests that wait for theirs take no memory from others.
    const giveBack = await this.#turns.take(signal)
    try {
      await memory?.take(signal)
      return this.#begin(call, this.#local, giveBack)
    } catch (error) {
      memory?.release()
      giveBack()
      throw error
    }
  }

  /**
   * Whether the request, which failed so, may go over TCP instead: nobody listens at the socket any more,
   * and so nothing was sent. A daemon that was restarted may have another one.
   */
  leavesSocket(request: DaemonRequest, error: unknown): boolean {
    const way = this.#overSocket.get(request)
    if (way === undefined || !(error instanceof DaemonUnreachableError)) return false
    if (this.#local !== way) return true
    this.#local = undefined
    this.#looking = undefined
    retire(way.agent)
    this.#options.logger.warn({ ...this.#fields(), err: error }, "the daemon's socket has gone")
    return true
  }

  async #look(): Promise<void> {
    const { logger, connectMs } = this.#options
    const signal = this.#ticket.canceled
    const links: (() => void)[] = []
    const ask = (local?: LocalWay): DaemonRequest => {
      const request = this.#begin({ method: 'OPTIONS', headers: { via: OWN_VIA } }, local)
      const cancel = (): void => request.cancel(signal.reason as Error)
      signal.addEventListener('abort', cancel)
      links.push(() => signal.removeEventListener('abort', cancel))
      return request
    }
    const agent = this.#createAgent(false)
    try {
      const { host } = this.url
      const socketPath = await findLocalSocket({ host, ask, agent, lookupMs: connectMs, signal })
      if (socketPath === undefined) return
      signal.throwIfAborted()
      this.#local = { agent, socketPath }
      const fields = { ...this.#fields(), path: socketPath }
      logger.info(fields, 'the daemon is on this host: using its socket')
    } catch (error) {
      agent.destroy()
      if (!(error instanceof LocalSocketError)) {
        this.#looking = undefined
        throw error
      }
      logger.warn({ ...this.#fields(), err: error }, "the daemon's Unix socket cannot be used")
    } finally {
      for (const unlink of links) unlink()
    }
  }

  #createAgent(isTls: boolean): http.Agent {
    const { trust, front } = this.#dialing
    if (front !== undefined) {
      return createFrontAgent(front.transport, isTls ? front.trust : undefined)
    }
    const { host } = this.url
    // SNI has names only; an address is compared with the certificate all the same.
    const servername = isIP(host) === 0 ? host : ''
    return createAgent(isTls ? { ...trust, servername } : undefined)
  }

  #fields(): Record<string, string> {
    return { ...logFields(this.#ticket.definition), daemon: this.url.address }
  }

  #begin(
    { method, suffix = '', headers, isWork = false, takesWithheld = false }: DaemonCall,
    local: LocalWay | undefined,
    onClose = (): void => undefined,
  ): DaemonRequest {
    this.#ticket.canceled.throwIfAborted()
    const { isTls, host, port, address, path } = this.url
    const agent = local?.agent ?? this.#agent
    dropStale(agent)
    const giveUp = new AbortController()
    const options = {
      method,
      path: path + suffix,
      headers: { host: address, ...headers },
      agent,
      givenUp: giveUp.signal,
      ...(local === undefined ? { host, port } : { socketPath: local.socketPath }),
    }
    const isSecure = isTls && local === undefined && this.#dialing.front === undefined
    const request = isSecure ? https.request(options) : requestPlain(options)
    request.once('close', onClose)
    const { connectMs, silenceMs, workMs } = this.#options
    const deadlines: Deadlines = { connectMs, silenceMs, answerMs: isWork ? workMs : silenceMs }
    const begun = new DaemonRequest(request, { deadlines, takesWithheld, giveUp })
    if (local !== undefined) this.#overSocket.set(begun, local)
    return begun
  }

  #close(): void {
    this.#agent.destroy()
    this.#local?.agent.destroy()
  }
}
