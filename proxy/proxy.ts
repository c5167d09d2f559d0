/** Puts the proxy together: the images service on daemons, in a server. Nothing is global. */
import { BufferPool } from '../core/buffer-pool.js'
import { Server, type StartOptions } from '../core/process/server.js'
import { KiB, MiB } from '../core/units.js'
import { parsePatterns } from './allowed-daemons.js'
import type { ProxyConfig } from './config.js'
import { normalizeDaemonUrl } from './daemon-url.js'
import { relayRoutes } from './routes.js'
import { readTrust } from './trust.js'
import { Upstreams, type UpstreamOptions } from './upstreams.js'

export interface Proxy {
  reload(config: ProxyConfig): void
  stop(): Promise<void>
}

/** Each piece costs JavaScript the same, however large: it touches none of its bytes. */
const FRONT_PIECE = MiB
/** Through JavaScript larger ones are no faster. */
const PLAIN_PIECE = 256 * KiB

/** Resolves when every service listens. Rejects with what an administrator has to mend. */
export async function startProxy(options: StartOptions<ProxyConfig>): Promise<Proxy> {
  const { config } = options
  const settings = upstreamOptions(options)
  const upstreams = new Upstreams(settings, readTrust(config))
  const server = await Server.start(options, {
    normalizeUrl: (url) => normalizeDaemonUrl(url, settings),
    normalizeSignedUrl: (url) => normalizeDaemonUrl(url, settings),
    routes: (gate, transport) => {
      if (transport !== undefined) upstreams.dialWith(transport)
      return relayRoutes({
        gate,
        upstreams,
        buffers: bufferPool(config, transport === undefined ? PLAIN_PIECE : FRONT_PIECE),
        minBodyRate: config.limits.min_body_rate,
        localSocket: config.local.enable ? config.local.socket : undefined,
      })
    },
  })
  return {
    reload: (changed) => {
      const trust = readTrust(changed)
      server.reload(changed)
      upstreams.replaceTrust(trust)
    },
    stop: () => server.stop(),
  }
}

function bufferPool({ limits }: ProxyConfig, bufferSize: number): BufferPool {
  return new BufferPool({
    bufferSize,
    maxBytes: limits.buffer_memory,
    waitTimeoutMs: limits.buffer_wait_timeout * 1000,
  })
}

function upstreamOptions({ config, logger }: StartOptions<ProxyConfig>): UpstreamOptions {
  const { proxy } = config
  return {
    allowed: parsePatterns(proxy.allowed_daemons),
    allowHttp: proxy.allow_http,
    usesLocalSocket: proxy.use_local_socket,
    maxConnections: proxy.max_connections_per_ticket,
    connectMs: proxy.connect_timeout * 1000,
    silenceMs: proxy.response_timeout * 1000,
    workMs: proxy.work_timeout * 1000,
    logger,
  }
}
