/** The three services, each a server with its routes: remote (TCP), local and control (Unix). */
import type { ServerConfig } from '../config/server.js'
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
import type { Logger } from '../log.js'

/** A server and how it gets and gives back its address. */
export interface Service {
  readonly server: HttpServer
  readonly name: 'remote' | 'local' | 'control'
  readonly listen: () => Promise<void>
  /** Gives the address back once nobody listens. */
  readonly cleanUp: () => void
}

export interface ServiceRoutes {
  readonly images: readonly Route[]
  readonly info: Route
  readonly tickets: readonly Route[]
}

type Common = Pick<HttpServerOptions, 'limits' | 'logger'>

/** More than the engine ever opens; the data services have their own limits. */
const MAX_CONTROL_CONNECTIONS = 256

export function createServices(
  config: ServerConfig,
  routes: ServiceRoutes,
  tls: TlsMaterial | undefined,
  logger: Logger,
): Service[] {
  const { limits } = config
  const admission = new Admission({
    maxConnections: limits.max_connections,
    maxConnectionsPerAddress: limits.max_connections_per_address,
  })
  const common = { limits: serverLimits(config), logger }
  const services = [remoteService(config, routes, tls, { ...common, admission })]
  if (config.local.enable) services.push(localService(config, routes, { ...common, admission }))
  if (config.control.enable) services.push(controlService(config, routes, common))
  return services
}

function remoteService(
  { remote }: ServerConfig,
  { images, info }: ServiceRoutes,
  tls: TlsMaterial | undefined,
  common: Common & { admission: Admission },
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
  common: Common & { admission: Admission },
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
  const isUnix = control.transport === 'unix'
  const server = new HttpServer({
    ...common,
    service: 'control',
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

function serverLimits({ limits }: ServerConfig): ServerLimits {
  return {
    headerTimeout: limits.header_timeout,
    handshakeTimeout: limits.handshake_timeout,
    idleTimeout: limits.idle_timeout,
    minBodyRate: limits.min_body_rate,
  }
}
