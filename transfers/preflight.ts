/** --check-config: what would keep the service from starting, or from its work. Nothing is made, nobody is disturbed. */
import { stat } from 'node:fs/promises'
import { readTlsMaterial } from '../core/http/tls.js'
import {
  checkAuthority,
  checkHost,
  checkLog,
  checkValidity,
  reasonOf,
  type Findings,
  type Preflight,
} from '../core/process/host-checks.js'
import type { TransfersConfig } from './options.js'
import { checkControl } from './control-check.js'
import { faultOfDatabase } from './database-check.js'
import { checkDomains } from './domain-check.js'
import { groupOf } from './group.js'
import { domainsOf } from './inventory.js'
import { checkLogins } from './logins.js'
import { checkRunDir } from './run-dir-check.js'

export async function preflight(config: TransfersConfig): Promise<Preflight> {
  const { transfers } = config
  const findings: Findings = { problems: [], warnings: [] }
  const { problems, warnings } = findings
  await checkTls(config, findings)
  await checkHost('[transfers] host', transfers.host, findings)
  await attempt(undefined, () => checkControl(config, findings), problems)
  await checkDomains(config, findings)
  const fault = await faultOfDatabase(transfers.database)
  if (fault !== undefined) problems.push(`[transfers] database: ${fault}`)
  const runDir = await checkRunDir(transfers.run_dir)
  problems.push(...runDir.problems)
  warnings.push(...runDir.warnings)
  await checkGroup(config, findings)
  const logins = await checkLogins(transfers.password_file)
  problems.push(...logins.problems)
  warnings.push(...logins.warnings)
  await checkLog(config, undefined, findings)
  return findings
}

/** `what` goes before the message, unless that says it itself. */
async function attempt(
  what: string | undefined,
  work: () => unknown,
  problems: string[],
): Promise<void> {
  try {
    await work()
  } catch (error) {
    // Of a host without a URL, which the reading of the configuration has told.
    if ((error as NodeJS.ErrnoException).code === 'ERR_INVALID_URL') return
    const reason = reasonOf(error)
    problems.push(what === undefined ? reason : `${what}: ${reason}`)
  }
}

async function checkTls({ tls }: TransfersConfig, { problems, warnings }: Findings): Promise<void> {
  const { enable, key_file, cert_file, ca_file } = tls
  const check = async (): Promise<void> => {
    readTlsMaterial(key_file, cert_file)
    await checkValidity('[tls] cert_file', cert_file, warnings)
  }
  if (enable) await attempt('[tls]', check, problems)
  if (ca_file !== '') await checkAuthority('[tls] ca_file', ca_file, problems)
}

async function checkGroup(
  config: TransfersConfig,
  { problems, warnings }: Findings,
): Promise<void> {
  const { group: name, run_dir } = config.transfers
  let group: number | undefined
  try {
    group = groupOf(config)
  } catch (error) {
    problems.push(reasonOf(error))
  }
  for (const path of [run_dir, ...domainsOf(config).map((domain) => domain.path)]) {
    if (group === undefined || (await mayEnter(path, group))) continue
    warnings.push(`[transfers] group: ${name} cannot enter ${path}`)
  }
}

/** True of one that is not there: it is made in time, or its lack was told. */
async function mayEnter(path: string, group: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return true
  return (found.mode & (found.gid === group ? 0o010 : 0o001)) !== 0
}
