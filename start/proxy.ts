/** The proxy as a child, in front of our daemon. */
import { join } from 'node:path'
import { ControlClient } from '../core/control/control-client.js'
import { startChild, untilReady, type Child } from './child.js'
import { freePort } from './free-port.js'
import { commonSections, writeConfig, type CommonSettings } from './server-config.js'

export interface ProxyOptions extends CommonSettings {
  /** The checkout. */
  readonly root: string
  /** Private to this run. */
  readonly runDir: string
  /** To listen on. */
  readonly host: string
  /** Of this machine in URLs; IPv6 in brackets. */
  readonly urlHost: string
  /** Of the daemon. */
  readonly origin: string
  readonly signal: AbortSignal
  readonly onLog?: (text: string) => void
}

export interface Proxy {
  readonly child: Child
  /** https://127.0.0.1:54323 */
  readonly origin: string
  readonly controlSocket: string
  readonly client: ControlClient
}

const START_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 10_000

/** Resolves when it answers. Throws StartError. */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const { root, runDir, host, urlHost, signal } = options
  const port = await freePort(host, 0)
  const confDir = join(runDir, 'proxy')
  const controlSocket = join(runDir, 'proxy.sock')
  await writeConfig(confDir, proxyConfig(options, port, controlSocket))
  const name = 'the proxy'
  const child = startChild({
    ...options,
    name,
    program: join(root, 'bin', 'imageio-proxy'),
    args: ['--conf-dir', confDir],
    stopTimeoutMs: STOP_TIMEOUT_MS,
  })
  const client = new ControlClient({ address: { socketPath: controlSocket } })
  const isReady = (): Promise<boolean> =>
    client.list().then(
      () => true,
      () => false,
    )
  await untilReady(child, { name, isReady, timeoutMs: START_TIMEOUT_MS, signal })
  return { child, origin: `https://${urlHost}:${port}`, controlSocket, client }
}

function proxyConfig(options: ProxyOptions, port: number, socket: string): string {
  const { runDir, host, origin, pki } = options
  return `${commonSections(options)}
[daemon]
systemd_enable = false
drop_privileges = false
run_dir = ${runDir}
shutdown_timeout = 2

[remote]
host = ${host}
port = ${port}

[local]
enable = false

[control]
enable = true
transport = unix
socket = ${socket}

[backend_http]
ca_file = ${pki.caFile}

[proxy]
allowed_daemons = ${new URL(origin).host}
`
}
