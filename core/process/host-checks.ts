/** What --check-config of every server looks at: files, directories and addresses of the host. */
import { X509Certificate } from 'node:crypto'
import { constants } from 'node:fs'
import { access, readFile, stat, statfs } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { logSettings, type LoggingConfig } from '../config/logging.js'

export interface Preflight {
  /** Each keeps the server from starting, or a service from working; one line. */
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
}

export interface Findings {
  readonly problems: string[]
  readonly warnings: string[]
}

/** Of a certificate that can be read. */
export async function checkValidity(
  option: string,
  path: string,
  warnings: string[],
): Promise<void> {
  const { validFromDate, validToDate } = new X509Certificate(await readFile(path))
  const now = Date.now()
  const complain = (what: string, date: Date): void =>
    void warnings.push(`${option}: ${path} ${what} ${date.toISOString()}`)
  if (validToDate.getTime() <= now) complain('has expired, on', validToDate)
  if (validFromDate.getTime() > now) complain('is not valid before', validFromDate)
}

export async function checkAuthority(
  option: string,
  path: string,
  problems: string[],
): Promise<void> {
  try {
    new X509Certificate(await readFile(path))
  } catch (error) {
    problems.push(`${option}: ${path} ${describe(error, 'holds no certificate (PEM)')}`)
  }
}

/** `user`: who the server is going to be, where that is another than who looks. */
export async function checkLog(
  config: LoggingConfig,
  user: { readonly uid: number; readonly name: string } | undefined,
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
  if (user === undefined || user.uid === 0) return
  if (owner !== user.uid && (mode & 0o022) === 0) {
    const { name } = user
    warnings.push(`[handler_logfile] ${dir} does not belong to ${name}: the log cannot be rotated`)
  }
}

/** Any port will do to see that the name resolves, to an address of this machine. */
export async function checkHost(
  option: string,
  host: string,
  { problems }: Findings,
): Promise<void> {
  const fault = await faultOfHost(host)
  // Servers go on with IPv4 where there is no IPv6.
  if (fault === undefined || (fault.code === 'EAFNOSUPPORT' && host === '::')) return
  problems.push(`${option}: ${host} ${describe(fault)}`)
}

function faultOfHost(host: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', resolve)
    server.listen({ host, port: 0, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}

/** Magic numbers of proc, sysfs and cgroup2: whoever may write there still makes no file. */
const KERNEL_FILE_SYSTEMS = new Set([0x9fa0, 0x62656572, 0x63677270])

/** Why no file can be made in it. */
export async function faultOfDirectory(dir: string): Promise<string | undefined> {
  try {
    const status = await stat(dir)
    if (!status.isDirectory()) return `${dir} is not a directory`
    await access(dir, constants.W_OK | constants.X_OK)
    const { type } = await statfs(dir)
    return KERNEL_FILE_SYSTEMS.has(type) ? `${dir} is the kernel's and takes no files` : undefined
  } catch (error) {
    return `${dir} ${describe(error)}`
  }
}

export async function isMissing(path: string): Promise<boolean> {
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
export function describe(error: unknown, otherwise?: string): string {
  const { code = '' } = error as NodeJS.ErrnoException
  return REASONS.get(code) ?? otherwise ?? reasonOf(error)
}

export function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, ' ')
}
