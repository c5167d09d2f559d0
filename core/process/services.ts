/**
 * The services, each a server with its routes: remote (TCP), local and control (Unix), and control for
 * management on other machines (TLS).
 */
import type { ServerConfig } from '../config/server.js'
import { hasName } from '../http/client-certificate.js'
import { Admission } from '../http/admission.js'
import {
  listenLoopback,
  listenTcp,
  listenUnix,
  MODE_PRIVATE,
  MODE_PUBLIC,
  removeSocket,
} from '../http/listen.js'
import { mayManage } from '../http/peer.js'
import type { Route } from '../http/routes.js'
import { HttpServer, type HttpServerOptions, type ServerLimits } from '../http/server.js'
import type { TlsMaterial } from '../http/tls.js'
import type { Transport } from '../../native/transport.js'
import type { Logger } from '../log.js'

/** A server and how it gets and gives back its address. */
export interface Service {
  readonly server: HttpServer
  readonly name: 'remote' | 'local' | 'control' | 'control_tls'
  readonly listen: () => Promise<void>
  /** Gives the address back once nobody listens. */
  readonly cleanUp: () => void
  /** Takes over what can change while it serves, besides certificates. */
  readonly reload?: (config: ServerConfig) => void
}

export interface ServiceRoutes {
  readonly images: readonly Route[]
  readonly info: Route
  readonly tickets: readonly Route[]
}

type Common = Pick<HttpServerOptions, 'limits' | 'logger'>
type DataCommon = Common & Pick<HttpServerOptions, 'admission' | 'transport'>

/** More than the engine ever opens; the data services have their own limits. */
const MAX_CONTROL_CONNECTIONS = 256
/** Over TLS anybody can connect, and is only then asked who it is. */
const MAX_CONTROL_CONNECTIONS_PER_ADDRESS = 64

export function createServices(
  config: ServerConfig,
  routes: ServiceRoutes,
  tls: TlsMaterial | undefined,
  { logger, transport }: { logger: Logger; transport: Transport | undefined },
): Service[] {
  const { limits } = config
  const admission = new Admission({
    maxConnections: limits.max_connections,
    maxConnectionsPerAddress: limits.max_connections_per_address,
  })
  const common = { limits: serverLimits(config), logger }
  // For bulk bodies only: the control services are not worth a front.
  const data = { ...common, admission, ...(transport === undefined ? {} : { transport }) }
  const services = [remoteService(config, routes, tls, data)]
  if (config.local.enable) services.push(localService(config, routes, data))
  const { control } = config
  if (control.enable) services.push(controlService(config, routes, common))
  if (control.enable && control.transport === 'tls' && tls !== undefined) {
    services.push(controlTlsService(config, routes, tls, common))
  }
  return services
}

function remoteService(
  { remote }: ServerConfig,
  { images, info }: ServiceRoutes,
  tls: TlsMaterial | undefined,
  common: DataCommon,
): Service {
  const server = new HttpServer({
    ...common,
    service: 'remote',
    routes: [...images, info],
    requireHost: true,
    ...(tls === undefined ? {} : { tls }),
  })
  const listen = (): Promise<void> => listenTcp(server, remote.host, remote.port)
  return { name: 'remote', server, listen, cleanUp: () => undefined }
}

function localService(
  { local }: ServerConfig,
  { images }: ServiceRoutes,
  common: DataCommon,
): Service {
  const server = new HttpServer({
    ...common,
    service: 'local',
    routes: images,
    requireHost: true,
  })
  return {
    name: 'local',
    server,
    listen: () => listenUnix(server, local.socket, MODE_PUBLIC),
    cleanUp: () => removeSocket(local.socket),
  }
}

/** The engine's client sends no Host. */
function controlService(
  { control }: ServerConfig,
  { tickets }: ServiceRoutes,
  common: Common,
): Service {
  const isUnix = control.transport !== 'tcp'
  const server = new HttpServer({
    ...common,
    service: 'control',
    isPolled: true,
    admission: new Admission({
      maxConnections: MAX_CONTROL_CONNECTIONS,
      maxConnectionsPerAddress: MAX_CONTROL_CONNECTIONS,
    }),
    routes: tickets,
    requireHost: false,
    ...(isUnix ? { mayConnect: (socket) => mayManage(socket, control.socket) } : {}),
  })
  return {
    name: 'control',
    server,
    listen: () =>
      isUnix
        ? listenUnix(server, control.socket, MODE_PRIVATE)
        : listenLoopback(server, control.port, control.prefer_ipv4),
    cleanUp: () => {
      if (isUnix) removeSocket(control.socket)
    },
  }
}

/** Beside the socket: whoever has a certificate of this authority and one of these names. */
function controlTlsService(
  { control }: ServerConfig,
  { tickets }: ServiceRoutes,
  tls: TlsMaterial,
  common: Common,
): Service {
  let names = namesOf(control)
  const server = new HttpServer({
    ...common,
    service: 'control_tls',
    isPolled: true,
    admission: new Admission({
      maxConnections: MAX_CONTROL_CONNECTIONS,
      maxConnectionsPerAddress: MAX_CONTROL_CONNECTIONS_PER_ADDRESS,
    }),
    routes: tickets,
    requireHost: false,
    tls,
    isWelcomeClient: (socket) => hasName(socket, names),
  })
  const listen = (): Promise<void> => listenTcp(server, control.host, control.port)
  const reload = (config: ServerConfig): void => {
    names = namesOf(config.control)
    server.reviewClients()
  }
  return { name: 'control_tls', server, listen, cleanUp: () => undefined, reload }
}

function namesOf({ allowed_clients: names }: ServerConfig['control']): string[] {
  return names.split(/\s+/).filter((name) => name !== '')
}

function serverLimits({ limits }: ServerConfig): ServerLimits {
  return {
    headerTimeout: limits.header_timeout,
    handshakeTimeout: limits.handshake_timeout,
    idleTimeout: limits.idle_timeout,
    minBodyRate: limits.min_body_rate,
  }
}
