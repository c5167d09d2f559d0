/** The hosts of the configuration: which are up, and where clients find their images. */
import type { ControlAddress, ControlTls } from '../../core/control/control-client.js'
import type { Logger } from '../../core/log.js'
import type { Clock } from '../clock.js'
import type { Host, Id } from '../model.js'
import { TicketControl } from './ticket-control.js'

export interface HostSettings {
  readonly id: Id
  readonly name: string
  readonly address: string
  readonly hardwareId: string | undefined
  readonly control: ControlAddress
  /** https://host:54322, without a path. */
  readonly transferUrl: string
  /** NBD servers that the service starts are reachable for its daemon: both are on one machine. */
  readonly hasNbdServers: boolean
}

export interface ProxySettings {
  readonly control: ControlAddress
  /** https://host:54323, without a path. */
  readonly url: string
}

export interface HostsOptions {
  readonly hosts: readonly HostSettings[]
  readonly proxy: ProxySettings | undefined
  readonly controlTimeoutMs: number
  readonly removeTimeoutMs: number
  /** Milliseconds between looks whether hosts are up. */
  readonly checkMs: number
  readonly clock: Clock
  readonly logger: Logger
}

export interface ControlledHost {
  readonly settings: HostSettings
  readonly tickets: TicketControl
  isUp: boolean
}

/** A host that starts with us is there in a moment; one that stays away is asked less and less often. */
const FIRST_RETRY_MS = 100

export class Hosts {
  readonly proxy: TicketControl | undefined
  /** Transfers whose ticket the proxy did not take, as the log has it: once, until it takes it. */
  readonly withoutProxy = new Set<Id>()
  readonly #options: HostsOptions
  readonly #hosts = new Map<Id, ControlledHost>()
  /** Those the log has said something of. */
  readonly #told = new Set<Id>()
  /** Where the search for a host begins: each gets its turn. */
  #next = 0
  readonly #endTimers = new Map<Id, () => void>()
  #isStopped = false

  constructor(options: HostsOptions) {
    this.#options = options
    const { controlTimeoutMs: timeoutMs, removeTimeoutMs, proxy } = options
    const control = (address: ControlAddress, peer = 'the daemon'): TicketControl =>
      new TicketControl({ address, peer, timeoutMs, removeTimeoutMs })
    for (const settings of options.hosts) {
      this.#hosts.set(settings.id, { settings, tickets: control(settings.control), isUp: false })
    }
    this.proxy = proxy === undefined ? undefined : control(proxy.control, 'the proxy')
  }

  /** Resolves when every host was asked once; goes on asking. */
  async start(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => this.#watch(host, FIRST_RETRY_MS)))
  }

  stop(): void {
    this.#isStopped = true
    for (const end of this.#endTimers.values()) end()
  }

  /** Whether a certificate is shown to any of them. */
  get usesTls(): boolean {
    return this.#controls().some(({ usesTls }) => usesTls)
  }

  replaceCertificates(tls: ControlTls): void {
    for (const control of this.#controls()) control.replaceCertificates(tls)
  }

  list(): readonly Host[] {
    return [...this.#hosts.values()].map(({ settings, isUp }) => {
      const { id, name, address, hardwareId } = settings
      return { id, name, address, hardwareId, isUp }
    })
  }

  get(id: Id | undefined): ControlledHost | undefined {
    return id === undefined ? undefined : this.#hosts.get(id)
  }

  /** One that is up and may serve such a transfer. */
  choose(backend: 'file' | 'nbd'): ControlledHost | undefined {
    const usable = this.#usable(backend)
    return usable[this.#next++ % Math.max(1, usable.length)]
  }

  hasUsable(backend: 'file' | 'nbd'): boolean {
    return this.#usable(backend).length > 0
  }

  /** Any of them, up or down. */
  get hasNbdServers(): boolean {
    return [...this.#hosts.values()].some(({ settings }) => settings.hasNbdServers)
  }

  transferUrl(hostId: Id | undefined, ticketId: Id): string | undefined {
    const host = this.get(hostId)
    return host && imageUrl(host.settings.transferUrl, ticketId)
  }

  /** Without a proxy clients that ask for one are sent to the host. */
  proxyUrl(hostId: Id | undefined, ticketId: Id): string | undefined {
    const { proxy } = this.#options
    if (proxy === undefined) return this.transferUrl(hostId, ticketId)
    return this.get(hostId) && imageUrl(proxy.url, ticketId)
  }

  #controls(): TicketControl[] {
    const controls = [...this.#hosts.values()].map(({ tickets }) => tickets)
    return this.proxy === undefined ? controls : [...controls, this.proxy]
  }

  #usable(backend: 'file' | 'nbd'): ControlledHost[] {
    return [...this.#hosts.values()].filter(
      ({ settings, isUp }) => isUp && (backend === 'file' || settings.hasNbdServers),
    )
  }

  /** Resolves when it was asked; asks again, after `retryMs` when it is down. */
  async #watch(host: ControlledHost, retryMs: number): Promise<void> {
    await this.#check(host)
    if (this.#isStopped) return
    const { clock, checkMs } = this.#options
    const waitMs = host.isUp ? checkMs : Math.min(retryMs, checkMs)
    const nextRetryMs = host.isUp ? FIRST_RETRY_MS : waitMs * 2
    const again = (): void => void this.#watch(host, nextRetryMs)
    this.#endTimers.set(host.settings.id, clock.setTimer(waitMs, again))
  }

  async #check(host: ControlledHost): Promise<void> {
    const problem = await host.tickets.problem()
    const isUp = problem === undefined
    const { id, name } = host.settings
    const { logger } = this.#options
    // Also of one that is down from the start: nobody would look for it.
    if (isUp !== host.isUp || !this.#told.has(id)) {
      this.#told.add(id)
      if (isUp) logger.info({ host: id, name }, 'host is up')
      else logger.warn({ host: id, name, reason: problem }, 'host is down')
    }
    host.isUp = isUp
  }
}

function imageUrl(base: string, ticketId: Id): string {
  return `${base.replace(/\/+$/, '')}/images/${ticketId}`
}
