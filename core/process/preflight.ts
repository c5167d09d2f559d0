/**
 * --check-config: what would keep a server with this configuration from starting, found without
 * starting it, and without disturbing one that runs. Files are looked at, never made.
 */
import { X509Certificate } from 'node:crypto'
import { constants } from 'node:fs'
import { access, lstat, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { logSettings } from '../config/logging.js'
import type { ServerConfig } from '../config/server.js'
import { lookUpId } from '../privileges.js'
import { readTls } from './server.js'

/** What is looked at. */
export type CheckedConfig = ServerConfig & {
  readonly backend_http: { readonly ca_file: string }
  /** Of a program that opens exports of NBD servers. */
  readonly backend_nbd?: { readonly ca_file: string }
}

export interface Preflight {
  /** Each keeps the daemon from starting, or a service from working; one line. */
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

interface Findings {
  readonly problems: string[]
  readonly warnings: string[]
}

/** The units make them when the service starts, and remove them at the end. */
const UNIT_RUN_DIRS = ['/run/ovirt-imageio', '/run/ovirt-imageio-proxy']

export async function preflight(config: CheckedConfig): Promise<Preflight> {
  const findings: Findings = { problems: [], warnings: [] }
  const uid = checkUser(config, findings)
  await checkTls(config, findings)
  await checkAuthorities(config, findings)
  await checkNbdAuthorities(config, uid, findings)
  await checkLog(config, uid, findings)
  await checkHost(config, findings)
  await checkSignedTickets(config, findings)
  const { control, local } = config
  if (local.enable) await checkSocket('local', local.socket, findings)
  if (control.enable && control.transport !== 'tcp') {
    await checkSocket('control', control.socket, findings)
  }
  if (control.enable && control.transport === 'tcp') {
    findings.warnings.push(
      '[control] transport: tcp lets every user of this host manage tickets; unix asks for a group',
    )
  }
  return findings
}

/** The user the daemon is going to be, if that is another one and known. */
function checkUser({ daemon }: CheckedConfig, { problems }: Findings): number | undefined {
  if (!daemon.drop_privileges || process.geteuid?.() !== 0) return undefined
  const find = (database: 'passwd' | 'group', name: string): number | undefined => {
    try {
      return lookUpId(database, name)
    } catch (error) {
      problems.push(`[daemon] ${reasonOf(error)}`)
      return undefined
    }
  }
  find('group', daemon.group_name)
  return find('passwd', daemon.user_name)
}

async function checkTls(config: CheckedConfig, { problems, warnings }: Findings): Promise<void> {
  const { cert_file, enable } = config.tls
  if (!enable) return
  try {
    readTls(config)
    const { validFromDate, validToDate } = new X509Certificate(await readFile(cert_file))
    const now = Date.now()
    const complain = (what: string, date: Date): void =>
      void warnings.push(`[tls] cert_file: ${cert_file} ${what} ${date.toISOString()}`)
    if (validToDate.getTime() <= now) complain('has expired, on', validToDate)
    if (validFromDate.getTime() > now) complain('is not valid before', validFromDate)
  } catch (error) {
    problems.push(`[tls] ${reasonOf(error)}`)
  }
}

async function checkAuthorities(config: CheckedConfig, { problems }: Findings): Promise<void> {
  for (const section of ['tls', 'backend_http', 'backend_nbd'] as const) {
    const path = config[section]?.ca_file ?? ''
    if (path === '') continue
    try {
      new X509Certificate(await readFile(path))
    } catch (error) {
      problems.push(
        `[${section}] ca_file: ${path} ${describe(error, 'holds no certificate (PEM)')}`,
      )
    }
  }
}

/** They are read for each connection, by the user the daemon has become. */
async function checkNbdAuthorities(
  { daemon, tls, backend_nbd }: CheckedConfig,
  uid: number | undefined,
  { warnings }: Findings,
): Promise<void> {
  if (backend_nbd === undefined || uid === undefined || uid === 0) return
  const section = backend_nbd.ca_file === '' ? 'tls' : 'backend_nbd'
  const path = backend_nbd.ca_file === '' ? tls.ca_file : backend_nbd.ca_file
  const status = path === '' ? undefined : await stat(path).catch(() => undefined)
  if (status === undefined) return
  const { mode, uid: owner } = status
  // As for the log, whether its group is one of the user's is not looked up.
  if ((owner === uid && (mode & 0o400) !== 0) || (mode & 0o044) !== 0) return
  const user = daemon.user_name
  warnings.push(
    `[${section}] ca_file: ${path} may not be read by ${user}: no nbds: image can be opened`,
  )
}

async function checkSignedTickets(
  { signed_tickets }: ServerConfig,
  { problems }: Findings,
): Promise<void> {
  const { enable, keys, revocations_file } = signed_tickets
  if (!enable) return
  await access(keys, constants.R_OK).catch((error: unknown) => {
    problems.push(`[signed_tickets] keys: ${keys} ${describe(error)}`)
  })
  if (revocations_file === '') return
  const fault = await faultOfDirectory(dirname(revocations_file))
  if (fault !== undefined) problems.push(`[signed_tickets] revocations_file: ${fault}`)
}

async function checkLog(
  config: CheckedConfig,
  uid: number | undefined,
  { problems, warnings }: Findings,
): Promise<void> {
  const { destination } = logSettings(config)
  if (destination.kind !== 'file') return
  const { path, maxBytes, backupCount } = destination
  const fail = (reason: string): void => void problems.push(`[handler_logfile] args: ${reason}`)
  const dir = dirname(path)
  const dirFault = await faultOfDirectory(dir)
  const status = await stat(path).catch(() => undefined)
  if (status === undefined) {
    if (dirFault !== undefined) fail(dirFault)
  } else if (!status.isFile()) fail(`${path} is not a regular file`)
  else
    await access(path, constants.W_OK).catch((error: unknown) => fail(`${path} ${describe(error)}`))
  if (dirFault !== undefined || maxBytes === 0 || backupCount === 0) return
  const { mode, uid: owner } = await stat(dir)
  // Whether its group is one of the user's is not looked up: then it may well be on purpose.
  if (uid !== undefined && uid !== 0 && owner !== uid && (mode & 0o022) === 0) {
    const user = config.daemon.user_name
    warnings.push(`[handler_logfile] ${dir} does not belong to ${user}: the log cannot be rotated`)
  }
}

/** Any port will do to see that the name resolves, to an address of this machine. */
async function checkHost({ remote }: CheckedConfig, { problems }: Findings): Promise<void> {
  const fault = await faultOfHost(remote.host === '' ? '0.0.0.0' : remote.host)
  // listenTcp() goes on with IPv4 where there is no IPv6.
  if (fault === undefined || (fault.code === 'EAFNOSUPPORT' && remote.host === '::')) return
  problems.push(`[remote] host: ${remote.host} ${describe(fault)}`)
}

function faultOfHost(host: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', resolve)
    server.listen({ host, port: 0, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}

async function checkSocket(
  section: 'local' | 'control',
  path: string,
  { problems, warnings }: Findings,
): Promise<void> {
  if (path.startsWith('\0')) return
  const found = await lstat(path).catch(() => undefined)
  if (found !== undefined && !found.isSocket()) {
    problems.push(`[${section}] socket: ${path} exists and is no socket`)
    return
  }
  const dir = dirname(path)
  const fault = await faultOfDirectory(dir)
  if (fault === undefined) return
  const isMadeByUnit = UNIT_RUN_DIRS.includes(dir) && (await isMissing(dir))
  if (isMadeByUnit) warnings.push(`[${section}] socket: ${fault}; the systemd unit makes it`)
  else problems.push(`[${section}] socket: ${fault}`)
}

/** Why no file can be made in it. */
async function faultOfDirectory(dir: string): Promise<string | undefined> {
  try {
    const status = await stat(dir)
    if (!status.isDirectory()) return `${dir} is not a directory`
    await access(dir, constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    return `${dir} ${describe(error)}`
  }
}

async function isMissing(path: string): Promise<boolean> {
  return stat(path).then(
    () => false,
    (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT',
  )
}

const REASONS = new Map([
  ['ENOENT', 'does not exist'],
  ['ENOTDIR', 'lies below something that is not a directory'],
  ['EISDIR', 'is a directory'],
  ['EACCES', 'may not be accessed'],
  ['EPERM', 'may not be accessed'],
  ['EROFS', 'lies on a read-only file system'],
  ['ENOTFOUND', 'does not resolve'],
  ['EAI_AGAIN', 'does not resolve: no name server answers'],
  ['EADDRNOTAVAIL', 'is not an address of this machine'],
])

/** What an error says of the thing named before it. */
function describe(error: unknown, otherwise?: string): string {
  const { code = '' } = error as NodeJS.ErrnoException
  return REASONS.get(code) ?? otherwise ?? reasonOf(error)
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, ' ')
}
