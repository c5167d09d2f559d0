/** The transfer service as a child: oVirt's ImageTransfer API in front of our daemon and proxy. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { makeDirectory } from '../core/directories/make-directory.js'
import { claimDirectory } from './claim.js'
import { startChild, untilReady, type Child } from './child.js'
import { freePort } from './free-port.js'
import { commonSections, writeConfig, type CommonSettings } from './server-config.js'
import { StartError } from './start-error.js'

export interface TransferOptions extends CommonSettings {
  /** The checkout. */
  readonly root: string
  /** Private to this run. */
  readonly runDir: string
  /** Database and disks, which stay; undefined means with this run. */
  readonly dir: string | undefined
  /** To listen on. */
  readonly host: string
  /** Of this machine in URLs; IPv6 in brackets. */
  readonly urlHost: string
  readonly signal: AbortSignal
  readonly onLog?: (text: string) => void
}

/** Who can log in, known before the service starts. */
export interface TransferPlace {
  readonly confDir: string
  /** Of database and disks. */
  readonly dir: string
  readonly isKept: boolean
  readonly port: number
  readonly apiUrl: string
  readonly user: string
  readonly password: string
  /** Holds the password alone, for programs that do not want it on their command line. */
  readonly passwordFile: string
}

/** What the service talks to. */
export interface Servers {
  /** Of the daemon. */
  readonly origin: string
  readonly controlSocket: string
  readonly proxyOrigin: string
  readonly proxySocket: string
}

const USER = 'admin@internal'
const START_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 10_000

/** All that takes no daemon and no proxy. Throws StartError. */
export async function prepareTransfers(options: TransferOptions): Promise<TransferPlace> {
  const { root, runDir, host, urlHost, signal } = options
  const dir = options.dir ?? join(runDir, 'storage')
  await makeDirectories(runDir, dir)
  const port = await freePort(host, 0)
  const confDir = join(runDir, 'transfers')
  // passwd reads where the passwords are; the rest is not known yet.
  const passwords = `[transfers]\npassword_file = ${hashesFile(runDir)}\n`
  await writeConfig(confDir, commonSections(options) + passwords)
  const password = randomBytes(12).toString('base64url')
  const passwordFile = join(runDir, 'password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  await setPassword(join(root, 'bin', 'imageio-transfers'), confDir, { password, signal })
  const isKept = options.dir !== undefined
  const apiUrl = `https://${urlHost}:${port}/ovirt-engine/api`
  return { confDir, dir, isKept, port, apiUrl, user: USER, password, passwordFile }
}

/** Resolves when it answers. Throws StartError. */
export async function startTransfers(
  options: TransferOptions,
  place: TransferPlace,
  servers: Servers,
): Promise<Child> {
  const { root, runDir, host, signal } = options
  const { confDir, port } = place
  await writeConfig(confDir, serviceConfig(options, place, servers))
  const name = 'the transfer service'
  const child = startChild({
    ...options,
    name,
    program: join(root, 'bin', 'imageio-transfers'),
    args: ['--conf-dir', confDir],
    stopTimeoutMs: STOP_TIMEOUT_MS,
  })
  const isReady = (): Promise<boolean> => answers(host, port)
  await untilReady(child, { name, isReady, timeoutMs: START_TIMEOUT_MS, signal })
  return { ...child, stop: () => stopService(child, nbdDirectory(runDir)) }
}

async function makeDirectories(runDir: string, dir: string): Promise<void> {
  await mkdir(nbdDirectory(runDir), { mode: 0o700 })
  try {
    await makeDirectory(disksDirectory(dir))
    await claimDirectory(dir)
  } catch (cause) {
    if (cause instanceof StartError) throw cause
    throw new StartError(`cannot use ${dir}: ${(cause as Error).message}`, { cause })
  }
}

const nbdDirectory = (runDir: string): string => join(runDir, 'nbd')
const hashesFile = (runDir: string): string => join(runDir, 'passwords')
export const disksDirectory = (dir: string): string => join(dir, 'disks')

function serviceConfig(options: TransferOptions, place: TransferPlace, servers: Servers): string {
  const { runDir, host } = options
  const { dir, port } = place
  const { origin, controlSocket, proxyOrigin, proxySocket } = servers
  return `${commonSections(options)}
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
password_file = ${hashesFile(runDir)}
control_socket = ${controlSocket}
transfer_url = ${origin}
proxy_control_socket = ${proxySocket}
proxy_url = ${proxyOrigin}
`
}

async function setPassword(
  program: string,
  confDir: string,
  { password, signal }: { readonly password: string; readonly signal: AbortSignal },
): Promise<void> {
  const setting = promisify(execFile)(program, ['passwd', '-c', confDir, USER], { signal })
  setting.child.stdin?.end(`${password}\n`)
  await setting.catch((cause: unknown) => {
    throw new StartError(`cannot set a password: ${String(cause)}`, { cause })
  })
}

/** A connection alone may be to the service while it looks whether its port is free. */
function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    // Nothing is told to whoever it is.
    const options = { host, port, path: '/', agent: false, rejectUnauthorized: false } as const
    const asked = request(options, (answer) => {
      answer.destroy()
      resolve(true)
    })
    asked.once('error', () => resolve(false)).end()
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
