/** Whether directories of storage domains can be used, and are theirs. */
import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  describe,
  faultOfDirectory,
  isMissing,
  type Findings,
} from '../core/process/host-checks.js'
import type { TransfersConfig } from './options.js'
import { optionOf, sharedDirectories } from './distinct-directories.js'
import { domainsOf, type DomainSettings } from './inventory.js'
import { MARKER } from './volumes/domain-marker.js'

const UNIT_DIR = '/var/lib/ovirt-imageio/images'

export async function checkDomains(config: TransfersConfig, findings: Findings): Promise<void> {
  for (const domain of domainsOf(config)) {
    const option = optionOf(config, domain)
    if (domain.path === UNIT_DIR && (await isMissing(UNIT_DIR))) {
      findings.warnings.push(`${option}: ${UNIT_DIR} is made by the systemd unit`)
      continue
    }
    const fault = await faultOf(domain)
    if (fault !== undefined) findings.problems.push(`${option}: ${fault}`)
  }
  findings.problems.push(...(await sharedDirectories(config)))
}

async function faultOf({ id, path }: DomainSettings): Promise<string | undefined> {
  if (await isMissing(path)) return `${path} does not exist; mount or make it, or mend the path`
  const fault = await faultOfDirectory(path)
  if (fault !== undefined) return fault
  try {
    await access(path, constants.R_OK)
    const marker = join(path, MARKER)
    // Without a marker it is new, or not mounted, which only the database knows.
    if (await isMissing(marker)) return undefined
    const found = (await readFile(marker, 'utf8')).trim()
    if (found === id) return undefined
    return `${path} is that of another storage domain: its id is ${id}, the file ${MARKER} has ${JSON.stringify(found)}`
  } catch (error) {
    return `${path} ${describe(error)}`
  }
}
