/** --check-config: what would keep the service from starting. Nothing is made, nobody is disturbed. */
import { access, constants, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { readTlsMaterial } from '../core/http/tls.js'
import type { Preflight } from '../core/process/preflight.js'
import type { TransfersConfig } from './config.js'
import { isPostgres } from './database.js'
import { sharedDirectories } from './distinct-directories.js'
import { groupOf } from './group.js'
import { domainsOf, hostsOf, proxyOf } from './inventory.js'

export async function preflight(config: TransfersConfig): Promise<Preflight> {
  const { tls, transfers } = config
  const problems: string[] = []
  const attempt = async (what: string, work: () => unknown): Promise<void> => {
    try {
      await work()
    } catch (error) {
      problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  if (tls.enable) await attempt('[tls]', () => readTlsMaterial(tls.key_file, tls.cert_file))
  await attempt('[transfers] control_url', () => [hostsOf(config), proxyOf(config)])
  for (const { name, path } of domainsOf(config)) {
    await attempt(`storage domain ${name}`, () => checkDirectory(path))
  }
  problems.push(...(await sharedDirectories(config)))
  const { database, password_file, run_dir } = transfers
  if (!isPostgres(database)) {
    await attempt('[transfers] database', async () =>
      checkDirectory(await nearestDirectory(dirname(database))),
    )
  }
  const warnings: string[] = []
  await attempt('configuration', async () => {
    const group = groupOf(config)
    for (const path of [run_dir, ...domainsOf(config).map((domain) => domain.path)]) {
      if (group === undefined || (await mayEnter(path, group))) continue
      warnings.push(`[transfers] group: ${transfers.group} cannot enter ${path}`)
    }
  })
  await access(password_file, constants.R_OK).catch(() => {
    warnings.push(`[transfers] password_file: ${password_file} cannot be read: nobody can log in`)
  })
  return { problems, warnings }
}

/** True of one that is not there: it is made in time, or its lack was told. */
async function mayEnter(path: string, group: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return true
  return (found.mode & (found.gid === group ? 0o010 : 0o001)) !== 0
}

/** The service makes the directory of its database, and those above it. */
async function nearestDirectory(path: string): Promise<string> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  )
  return isThere || path === dirname(path) ? path : nearestDirectory(dirname(path))
}

async function checkDirectory(path: string): Promise<void> {
  if (!(await stat(path)).isDirectory()) throw new Error(`${path} is not a directory`)
  await access(path, constants.W_OK | constants.X_OK)
}
