/** Puts the daemon together: configuration, tickets, images, services. Nothing is global. */
import { hostname } from 'node:os'
import { readFileSync } from 'node:fs'
import { readTlsMaterial, type TlsMaterial } from '../core/http/tls.js'
import { VERSION } from '../core/http/version.js'
import { parseExactJson } from '../core/json.js'
import type { Logger } from '../core/log.js'
import { dropPrivileges } from '../core/privileges.js'
import { parseDefinition, type DefinitionOptions } from '../core/tickets/definition.js'
import { TicketGate } from '../core/tickets/gate.js'
import { ticketRoutes } from '../core/tickets/routes.js'
import { SignedTickets } from '../core/tickets/signed/signed-tickets.js'
import { logFields, TicketStore } from '../core/tickets/store.js'
import type { Ticket } from '../core/tickets/ticket.js'
import { MiB } from '../core/units.js'
import type { Backend } from './backends/backend.js'
import { ImageStates } from './backends/image-states.js'
import type { NbdSettings } from './backends/nbd/open.js'
import { normalizeUrl, openBackend } from './backends/open.js'
import { splitPaths, type DaemonConfig } from './config.js'
import type { OpenImage } from './images/context.js'
import { imageRoutes, infoRoute } from './images/routes.js'
import { BufferPool } from './operations/buffer-pool.js'
import { ChecksumSlots } from './operations/checksum-slots.js'
import { createServices, type Service } from './services.js'

export interface DaemonOptions {
  readonly config: DaemonConfig
  readonly logger: Logger
  /** Files and directories to hand over with the privileges, besides the daemon's own. */
  readonly logFiles: readonly string[]
  /** A ticket that is there from the start (JSON). */
  readonly ticketFile?: string | undefined
}

/** Storage and TLS are as fast with 1 MiB as with more; two buffers per operation. */
const CHUNK_SIZE = MiB

export class Daemon {
  readonly #logger: Logger
  readonly #store: TicketStore
  readonly #signed: SignedTickets | undefined
  readonly #services: readonly Service[]
  /** Those whose address is ours, not another daemon's that was there first. */
  readonly #listening: Service[] = []
  readonly #shutdownMs: number

  /** Resolves when every service listens. Rejects with what an administrator has to mend. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { config, logger } = options
    logger.info({ version: VERSION, host: hostname(), node: process.version }, 'starting')
    const tls = readTls(config)
    const store = new TicketStore({ expiredGrace: config.control.expired_ticket_grace, logger })
    const signed = await openSignedTickets(config, store, logger)
    const daemon = new Daemon(options, tls, store, signed)
    try {
      await daemon.#listen(config, options.logFiles)
      await signed?.proveAccess()
      if (options.ticketFile !== undefined) {
        await daemon.#addTicketFile(options.ticketFile, definitionOptions(config))
      }
    } catch (error) {
      await daemon.stop()
      throw error
    }
    return daemon
  }

  private constructor(
    { config, logger }: DaemonOptions,
    tls: TlsMaterial | undefined,
    store: TicketStore,
    signed: SignedTickets | undefined,
  ) {
    this.#logger = logger
    this.#store = store
    this.#signed = signed
    this.#shutdownMs = config.daemon.shutdown_timeout * 1000
    const images = imageRoutes({
      gate: new TicketGate(store, signed),
      open: imageOpener(config, logger),
      buffers: bufferPool(config),
      checksums: new ChecksumSlots(config.limits.max_checksums),
      minBodyRate: config.limits.min_body_rate,
      localSocket: config.local.enable ? config.local.socket : undefined,
    })
    const { remove_timeout: removeTimeout } = config.control
    const tickets = ticketRoutes({
      ...definitionOptions(config),
      store,
      removeTimeout,
      ...(signed === undefined ? {} : { revoke: (id: string) => signed.revoke(id) }),
    })
    const control = [...tickets, ...(signed?.routes(removeTimeout) ?? [])]
    this.#services = createServices(
      config,
      { images, info: infoRoute, tickets: control },
      tls,
      logger,
    )
  }

  /** Reads the certificate again; connections that exist keep theirs. */
  reload(config: DaemonConfig): void {
    void this.#signed?.reload()
    const material = readTls(config)
    if (material === undefined) return
    for (const { server } of this.#services) server.replaceCertificate(material)
    this.#logger.info('certificate reloaded')
  }

  /** Stops accepting, lets requests finish for the configured time, then cuts. */
  async stop(): Promise<void> {
    await Promise.all(this.#services.map(({ server }) => server.close(this.#shutdownMs)))
    for (const service of this.#listening) this.#cleanUp(service)
    this.#signed?.close()
    this.#store.close()
  }

  /** A socket that cannot be removed is replaced at the next start. */
  #cleanUp({ name, cleanUp }: Service): void {
    try {
      cleanUp()
    } catch (error) {
      this.#logger.warn({ service: name, err: error }, 'the socket cannot be removed')
    }
  }

  async #listen(config: DaemonConfig, logFiles: readonly string[]): Promise<void> {
    for (const service of this.#services) {
      const { name, server, listen } = service
      await listen()
      this.#listening.push(service)
      this.#logger.info({ service: name, ...addressFields(server.address) }, 'listening')
    }
    const { drop_privileges, user_name, group_name, run_dir } = config.daemon
    if (!drop_privileges) return
    const { control } = config
    const sockets = control.enable && control.transport === 'unix' ? [control.socket] : []
    const chown = [run_dir, ...logFiles, ...sockets]
    if (dropPrivileges({ user: user_name, group: group_name, chown })) {
      this.#logger.info({ user: user_name, group: group_name }, 'privileges dropped')
    }
  }

  async #addTicketFile(file: string, options: DefinitionOptions): Promise<void> {
    try {
      await this.#store.add(parseDefinition(parseExactJson(readFileSync(file)), options), 0)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new Error(`cannot use the ticket ${file}: ${reason}`, { cause })
    }
  }
}

/** Fails when it cannot be used; nothing without TLS. */
export function readTls({ tls }: DaemonConfig): TlsMaterial | undefined {
  return tls.enable ? readTlsMaterial(tls.key_file, tls.cert_file) : undefined
}

/** For what a canceled ticket has in flight on an NBD server: less than DELETE waits, if it does. */
const MAX_CANCEL_GRACE_MS = 10_000

function imageOpener(config: DaemonConfig, logger: Logger): OpenImage {
  const graceMs = Math.min(MAX_CANCEL_GRACE_MS, config.control.remove_timeout * 500)
  const options = {
    maxConnections: config.daemon.max_connections,
    allowedPaths: splitPaths(config.backend_file.allowed_paths),
    images: new ImageStates(),
    nbd: nbdSettings(config),
    cancelGraceMs: graceMs > 0 ? graceMs : MAX_CANCEL_GRACE_MS,
  }
  return async (ticket: Ticket): Promise<Backend> => {
    const { url, ops, dirty } = ticket.definition
    const writable = ops.includes('write')
    const backend = await openBackend(url, {
      ...options,
      writable,
      dirty,
      signal: ticket.canceled,
      onWritesLost: (cause) => ticket.breakOff(cause),
    })
    const { name, blockSize } = backend
    const facts = { backend: name, block: blockSize, writable }
    logger.info({ ...logFields(ticket.definition), ...facts }, 'image opened')
    return backend
  }
}

function nbdSettings({ backend_nbd, tls }: DaemonConfig): NbdSettings {
  const caFile = backend_nbd.ca_file === '' ? tls.ca_file : backend_nbd.ca_file
  return {
    maxRequest: backend_nbd.buffer_size,
    connectTimeoutMs: backend_nbd.connect_timeout * 1000,
    operationTimeoutMs: backend_nbd.operation_timeout * 1000,
    caFile: caFile === '' ? undefined : caFile,
  }
}

function bufferPool({ backend_file, limits }: DaemonConfig): BufferPool {
  const half = Math.floor(backend_file.buffer_size / 2)
  return new BufferPool({
    bufferSize: Math.min(CHUNK_SIZE, half - (half % 4096)),
    maxBytes: limits.buffer_memory,
    waitTimeoutMs: limits.buffer_wait_timeout * 1000,
  })
}

function definitionOptions({ daemon }: DaemonConfig): DefinitionOptions {
  return { inactivityTimeout: daemon.inactivity_timeout, normalizeUrl }
}

/** Undefined where they are off. */
async function openSignedTickets(
  config: DaemonConfig,
  store: TicketStore,
  logger: Logger,
): Promise<SignedTickets | undefined> {
  const { signed_tickets } = config
  if (!signed_tickets.enable) return undefined
  const normalize = (url: string): string => {
    const normal = normalizeUrl(url)
    if (signed_tickets.allow_nbd || normal.startsWith('file:')) return normal
    throw new Error('tokens may name files only')
  }
  const definitions = { ...definitionOptions(config), normalizeUrl: normalize }
  return SignedTickets.open({ config: signed_tickets, definitions, store, logger })
}

function addressFields(address: HttpAddress): Record<string, string | number> {
  if (typeof address === 'string') return { path: address }
  return { address: address.address, port: address.port }
}

type HttpAddress = Service['server']['address']
