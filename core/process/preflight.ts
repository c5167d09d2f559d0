/**
 * --check-config: what would keep a server with this configuration from starting, found without
 * starting it, and without disturbing one that runs. Files are looked at, never made.
 */
import { constants } from 'node:fs'
import { access, lstat, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { ServerConfig } from '../config/server.js'
import { lookUpId } from '../privileges.js'
import {
  checkAuthority,
  checkHost,
  checkLog,
  checkValidity,
  describe,
  faultOfDirectory,
  isMissing,
  reasonOf,
  type Findings,
  type Preflight,
} from './host-checks.js'
import { readTls } from './server.js'
import { faultOfTransport } from './transport.js'

/** What is looked at. */
export type CheckedConfig = ServerConfig & {
  readonly backend_http: { readonly ca_file: string }
  /** Of a program that opens exports of NBD servers. */
  readonly backend_nbd?: { readonly ca_file: string }
}

/** The units make them when the service starts, and remove them at the end. */
const UNIT_RUN_DIRS = ['/run/ovirt-imageio', '/run/ovirt-imageio-proxy']

/** `missing`: see openTransport. */
export async function preflight(config: CheckedConfig, missing?: string): Promise<Preflight> {
  const findings: Findings = { problems: [], warnings: [] }
  const uid = checkUser(config, findings)
  await checkTls(config, findings)
  await checkAuthorities(config, findings)
  await checkNbdAuthorities(config, uid, findings)
  const user = uid === undefined ? undefined : { uid, name: config.daemon.user_name }
  await checkLog(config, user, findings)
  const { host } = config.remote
  await checkHost('[remote] host', host === '' ? '0.0.0.0' : host, findings)
  await checkSignedTickets(config, findings)
  checkTransport(config, missing, findings)
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

/** Its threads are started for that, and end again. */
function checkTransport(
  { transport }: CheckedConfig,
  missing: string | undefined,
  { problems, warnings }: Findings,
): void {
  const fault = faultOfTransport(transport, missing)
  if (fault === undefined) return
  if (transport.native === 'on') problems.push(`[transport] native: ${fault}`)
  else warnings.push(`[transport] native: ${fault}, and bodies go the plain way`)
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
    await checkValidity('[tls] cert_file', cert_file, warnings)
  } catch (error) {
    problems.push(`[tls] ${reasonOf(error)}`)
  }
}

async function checkAuthorities(config: CheckedConfig, { problems }: Findings): Promise<void> {
  for (const section of ['tls', 'backend_http', 'backend_nbd'] as const) {
    const path = config[section]?.ca_file ?? ''
    if (path === '') continue
    await checkAuthority(`[${section}] ca_file`, path, problems)
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
