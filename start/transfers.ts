/** The proxy and the transfer service beside the daemon: all that oVirt's clients talk to, on one machine. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ControlClient } from '../core/control/control-client.js'
import { startChild, untilReady, type Child } from './child.js'
import { freePort } from './free-port.js'
import type { Pki } from './pki.js'
import { StartError } from './start-error.js'

export interface TransferOptions {
  readonly root: string
  /** Private to this run. */
  readonly runDir: string
  /** Database and disks, which stay. */
  readonly dir: string
  readonly pki: Pki
  /** To listen on. */
  readonly host: string
  /** Of this machine in URLs; IPv6 in brackets. */
  readonly urlHost: string
  /** Of the daemon. */
  readonly origin: string
  readonly controlSocket: string
  readonly isVerbose: boolean
  readonly signal: AbortSignal
  readonly onLog?: (text: string) => void
}

export interface TransferPlace {
  readonly dir: string
  readonly apiUrl: string
  readonly user: string
  readonly password: string
}

const USER = 'admin@internal'
const START_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 10_000

/** Adds what it starts to `children`. Throws StartError. */
export async function startTransfers(
  options: TransferOptions,
  children: Child[],
): Promise<TransferPlace> {
  const { root, runDir, dir, host, urlHost, signal } = options
  await makeDirectories(options)
  const proxyPort = await freePort(host, 0)
  const port = await freePort(host, 0)
  const proxyDir = join(runDir, 'proxy')
  const confDir = join(runDir, 'transfers')
  const proxySocket = join(runDir, 'proxy.sock')
  await writeConfig(proxyDir, proxyConfig(options, proxyPort, proxySocket))
  await writeConfig(confDir, serviceConfig(options, { port, proxyPort, proxySocket }))
  const password = randomBytes(12).toString('base64url')
  await setPassword(join(root, 'bin', 'imageio-transfers'), confDir, password)

  const start = async (
    name: string,
    program: string,
    conf: string,
    isReady: () => Promise<boolean>,
  ) => {
    const args = ['--conf-dir', conf]
    const path = join(root, 'bin', program)
    const child = startChild({
      ...options,
      name,
      program: path,
      args,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    })
    await untilReady(child, { name, isReady, timeoutMs: START_TIMEOUT_MS, signal })
    return child
  }
  const proxy = new ControlClient({ address: { socketPath: proxySocket } })
  const answers = (): Promise<boolean> =>
    proxy.list().then(
      () => true,
      () => false,
    )
  children.push(await start('the proxy', 'imageio-proxy', proxyDir, answers))
  const service = await start('the transfer service', 'imageio-transfers', confDir, () =>
    accepts(host, port),
  )
  children.push({ ...service, stop: () => stopService(service, nbdDirectory(runDir)) })
  return { dir, apiUrl: `https://${urlHost}:${port}/ovirt-engine/api`, user: USER, password }
}

async function makeDirectories({ runDir, dir }: TransferOptions): Promise<void> {
  await mkdir(nbdDirectory(runDir), { mode: 0o700 })
  try {
    await mkdir(disksDirectory(dir), { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw new StartError(`cannot use ${dir}: ${(cause as Error).message}`, { cause })
  }
}

const nbdDirectory = (runDir: string): string => join(runDir, 'nbd')
const disksDirectory = (dir: string): string => join(dir, 'disks')

async function writeConfig(confDir: string, config: string): Promise<void> {
  await mkdir(join(confDir, 'conf.d'), { recursive: true, mode: 0o700 })
  await writeFile(join(confDir, 'conf.d', 'zzz-start.conf'), config, { mode: 0o600 })
}

function common({ pki, isVerbose }: TransferOptions): string {
  return `[tls]
enable = true
key_file = ${pki.keyFile}
cert_file = ${pki.certFile}
ca_file = ${pki.caFile}

[log]
format = pretty

[handlers]
keys = stderr

[handler_stderr]
level = DEBUG

[logger_root]
handlers = stderr
level = ${isVerbose ? 'DEBUG' : 'INFO'}
`
}

function proxyConfig(options: TransferOptions, port: number, socket: string): string {
  const { runDir, host, origin, pki } = options
  return `${common(options)}
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

interface Ports {
  readonly port: number
  readonly proxyPort: number
  readonly proxySocket: string
}

function serviceConfig(options: TransferOptions, { port, proxyPort, proxySocket }: Ports): string {
  const { runDir, dir, host, urlHost, origin, controlSocket } = options
  return `${common(options)}
[daemon]
systemd_enable = false
shutdown_timeout = 2

[transfers]
host = ${host}
port = ${port}
database = ${join(dir, 'transfers.sqlite')}
storage_dir = ${disksDirectory(dir)}
run_dir = ${nbdDirectory(runDir)}
username = ${USER}
password_file = ${join(runDir, 'passwords')}
control_socket = ${controlSocket}
transfer_url = ${origin}
proxy_control_socket = ${proxySocket}
proxy_url = https://${urlHost}:${proxyPort}
`
}

async function setPassword(program: string, confDir: string, password: string): Promise<void> {
  const setting = promisify(execFile)(program, ['passwd', '-c', confDir, USER])
  setting.child.stdin?.end(`${password}\n`)
  await setting.catch((cause: unknown) => {
    throw new StartError(`cannot set a password: ${String(cause)}`, { cause })
  })
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const settle = (isOpen: boolean): void => {
      socket.destroy()
      resolve(isOpen)
    }
    socket.once('connect', () => settle(true)).once('error', () => settle(false))
  })
}

/** Its NBD servers outlive it by intent; here nobody would come back for them. */
async function stopService(service: Child, nbdDir: string): Promise<void> {
  await service.stop()
  const names = (await readdir(nbdDir)).filter((name) => name.endsWith('.pid'))
  for (const name of names) {
    const pid = Number(await readFile(join(nbdDir, name), 'utf8').catch(() => ''))
    if (!(pid > 1)) continue
    try {
      process.kill(pid, 'SIGTERM')
    } catch {
      // It has ended already.
    }
  }
}
