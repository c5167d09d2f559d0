/**
 * One server process: tickets, the three services, privileges. What the images service does, and which
 * URLs tickets may have, is the program's own and an argument. Nothing is global.
 */
import { hostname } from 'node:os'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServerConfig } from '../config/server.js'
import type { Route } from '../http/routes.js'
import { readAuthorities, readTlsMaterial, type TlsMaterial } from '../http/tls.js'
import { VERSION } from '../http/version.js'
import { infoRoute } from '../images/info.js'
import type { Transport } from '../../native/transport.js'
import { parseExactJson } from '../json.js'
import type { Logger } from '../log.js'
import { dropPrivileges } from '../privileges.js'
import { RateLimiter } from '../rate/rate-limiter.js'
import { parseDefinition, type DefinitionOptions } from '../tickets/definition.js'
import { TicketGate } from '../tickets/gate.js'
import { journalFiles, Journals } from '../tickets/journal.js'
import { ticketRoutes } from '../tickets/routes.js'
import { SignedTickets } from '../tickets/signed/signed-tickets.js'
import { TicketStore } from '../tickets/store.js'
import { createServices, type Service } from './services.js'
import { openTransport } from './transport.js'

export interface StartOptions<C = ServerConfig> {
  readonly config: C
  readonly logger: Logger
  /** Files and directories to hand over with the privileges, besides the server's own. */
  readonly logFiles: readonly string[]
  /** A ticket that is there from the start (JSON). */
  readonly ticketFile?: string | undefined
}

/** What makes a server a daemon or a proxy. */
export interface Images {
  /** The images service, behind the native front if there is one. */
  readonly routes: (gate: TicketGate, transport: Transport | undefined) => readonly Route[]
  /** The URL of a ticket in its normal form; throws an Error that says what is wrong with it. */
  readonly normalizeUrl: (url: string) => string
  /** The same for the URL in a token, whose signer need not be trusted with as much. */
  readonly normalizeSignedUrl: (url: string) => string
  /** Images are changed here: what was announced is known to the next process. */
  readonly recordsChanges?: boolean
}

export class Server {
  readonly #logger: Logger
  readonly #store: TicketStore
  readonly #signed: SignedTickets | undefined
  readonly #services: readonly Service[]
  /** Those whose address is ours, not another server's that was there first. */
  readonly #listening: Service[] = []
  readonly #shutdownMs: number
  readonly #transport: Transport | undefined

  /** Resolves when every service listens. Rejects with what an administrator has to mend. */
  static async start(options: StartOptions, images: Images): Promise<Server> {
    const { config, logger } = options
    logger.info({ version: VERSION, host: hostname(), node: process.version }, 'starting')
    const tls = readTls(config)
    const rates = new RateLimiter({ bytesPerSecond: config.limits.max_bytes_per_second })
    const { expired_ticket_grace: expiredGrace } = config.control
    const journals =
      images.recordsChanges === true ? { journals: new Journals(journalsDir(config), logger) } : {}
    const store = new TicketStore({ expiredGrace, logger, rates, ...journals })
    const signed = await openSignedTickets(options, images, store)
    const server = new Server(options, images, { tls, store, signed })
    try {
      await server.#listen(config, options.logFiles)
      await signed?.proveAccess()
      if (options.ticketFile !== undefined) {
        await server.#addTicketFile(options.ticketFile, definitionOptions(config, images))
      }
    } catch (error) {
      await server.stop()
      throw error
    }
    return server
  }

  private constructor(
    { config, logger }: StartOptions,
    images: Images,
    { tls, store, signed }: Parts,
  ) {
    this.#logger = logger
    this.#shutdownMs = config.daemon.shutdown_timeout * 1000
    this.#store = store
    this.#signed = signed
    const { remove_timeout: removeTimeout } = config.control
    const tickets = ticketRoutes({
      ...definitionOptions(config, images),
      store,
      removeTimeout,
      ...(signed === undefined ? {} : { revoke: (id: string) => signed.revoke(id) }),
    })
    this.#transport = openTransport(config.transport, logger)
    const routes = {
      images: images.routes(new TicketGate(store, signed), this.#transport),
      info: infoRoute,
      tickets: [...tickets, ...(signed?.routes(removeTimeout) ?? [])],
    }
    const parts = { logger, transport: this.#transport }
    this.#services = createServices(config, routes, tls, parts)
  }

  /** Reads certificates and the list of clients again; connections that exist keep their certificate. */
  reload(config: ServerConfig): void {
    void this.#signed?.reload()
    const material = readTls(config)
    if (material === undefined) return
    for (const { server, reload } of this.#services) {
      server.replaceCertificate(material)
      reload?.(config)
    }
    this.#logger.info('certificate reloaded')
  }

  /** Stops accepting, lets requests finish for the configured time, then cuts. */
  async stop(): Promise<void> {
    await Promise.all(this.#services.map(({ server }) => server.close(this.#shutdownMs)))
    this.#transport?.close()
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

  async #listen(config: ServerConfig, logFiles: readonly string[]): Promise<void> {
    for (const service of this.#services) {
      const { name, server, listen } = service
      await listen()
      this.#listening.push(service)
      this.#logger.info({ service: name, ...addressFields(server.address) }, 'listening')
    }
    const { drop_privileges, user_name, group_name, run_dir } = config.daemon
    if (!drop_privileges) return
    const { control } = config
    const sockets = control.enable && control.transport !== 'tcp' ? [control.socket] : []
    const chown = [run_dir, ...journalFiles(journalsDir(config)), ...logFiles, ...sockets]
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

/** What a server is made of, besides its options. */
interface Parts {
  readonly tls: TlsMaterial | undefined
  readonly store: TicketStore
  readonly signed: SignedTickets | undefined
}

/** Undefined where they are off. */
async function openSignedTickets(
  { config, logger }: StartOptions,
  images: Images,
  store: TicketStore,
): Promise<SignedTickets | undefined> {
  if (!config.signed_tickets.enable) return undefined
  const definitions = {
    ...definitionOptions(config, images),
    normalizeUrl: images.normalizeSignedUrl,
  }
  return SignedTickets.open({ config: config.signed_tickets, definitions, store, logger })
}

/** Fails when it cannot be used; nothing without TLS. */
export function readTls({ tls, control }: ServerConfig): TlsMaterial | undefined {
  if (!tls.enable) return undefined
  const material = readTlsMaterial(tls.key_file, tls.cert_file)
  if (!control.enable || control.transport !== 'tls') return material
  return { ...material, clientCa: readAuthorities(control.ca_file) }
}

function definitionOptions({ daemon }: ServerConfig, { normalizeUrl }: Images): DefinitionOptions {
  return { inactivityTimeout: daemon.inactivity_timeout, normalizeUrl }
}

function addressFields(address: HttpAddress): Record<string, string | number> {
  if (typeof address === 'string') return { path: address }
  return { address: address.address, port: address.port }
}

type HttpAddress = Service['server']['address']

/** Beside the control socket: it lasts as long as the machine is up. */
function journalsDir({ daemon }: ServerConfig): string {
  return join(daemon.run_dir, 'changes')
}
