/**
 * The real proxy in front of a real daemon: separate processes with separate authorities, as on two
 * hosts. What ends the test ends both.
 */
import type { Test } from 'tap'
import {
  startDaemon,
  type Daemon,
  type DaemonOptions,
  type Sections,
  type TicketFields,
} from './daemon.js'
import { testPki } from './pki.js'

export interface ProxyOptions {
  readonly proxy?: Sections
  readonly daemon?: DaemonOptions
  /** Whether the daemon's Unix socket is used. */
  readonly usesLocalSocket?: boolean
  /** Services the proxy does not have. */
  readonly skips?: DaemonOptions['skips']
}

/** An image at the daemon, with a ticket of the same id at both. */
export interface ProxiedImage {
  readonly id: string
  readonly url: string
  readonly file: string
  bytes(): Buffer
}

export class Pair {
  readonly daemon: Daemon
  readonly proxy: Daemon

  constructor(daemon: Daemon, proxy: Daemon) {
    this.daemon = daemon
    this.proxy = proxy
  }

  /** `fields` go into both tickets, `atProxy` only into the proxy's. */
  async addImage(
    content: Buffer | number = 8192,
    fields: TicketFields = {},
    atProxy: TicketFields = {},
  ): Promise<ProxiedImage> {
    const image = await this.daemon.addImage(content, fields)
    const size = typeof content === 'number' ? content : content.length
    const url = `${this.daemon.url}/images/${image.id}`
    await this.proxy.addTicket({ uuid: image.id, size, url, ...fields, ...atProxy })
    return image
  }
}

export async function startPair(t: Test, options: ProxyOptions = {}): Promise<Pair> {
  const daemon = await startDaemon(t, options.daemon)
  const proxy = await startProxy(t, options.proxy, options.usesLocalSocket, options.skips)
  return new Pair(daemon, proxy)
}

/** A proxy with an authority of its own, which trusts that of the daemons in tests. */
export function startProxy(
  t: Test,
  config: Sections = {},
  usesLocalSocket = false,
  skips: DaemonOptions['skips'] = [],
): Promise<Daemon> {
  const own = testPki('proxy')
  const base: Sections = {
    tls: { key_file: own.keyFile, cert_file: own.certFile, ca_file: '' },
    backend_http: { ca_file: testPki().caFile },
    proxy: {
      allowed_daemons: 'localhost:* 127.0.0.1:* [::1]:*',
      use_local_socket: usesLocalSocket,
    },
  }
  const names = new Set([...Object.keys(base), ...Object.keys(config)])
  const merged = Object.fromEntries(
    [...names].map((name) => [name, { ...base[name], ...config[name] }]),
  )
  return startDaemon(t, { program: 'imageio-proxy', pki: own, config: merged, skips })
}
