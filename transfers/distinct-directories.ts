/** Storage domains that share a directory, by whatever path: each would list, and remove, the other's volumes. */
import { directoryIdentity } from '../core/directories/directory-identity.js'
import { domainSections, type TransfersConfig } from './options.js'
import { domainsOf, type DomainSettings } from './inventory.js'

/** One line for each pair, which names both sections. */
export async function sharedDirectories(config: TransfersConfig): Promise<string[]> {
  const problems: string[] = []
  const seen = new Map<string, DomainSettings>()
  for (const domain of domainsOf(config)) {
    const identity = await directoryIdentity(domain.path)
    const other = seen.get(identity)
    if (other === undefined) seen.set(identity, domain)
    else {
      const same = other.path === domain.path ? '' : `, ${other.path}`
      problems.push(
        `${optionOf(config, domain)}: ${domain.path} is the directory of ${optionOf(config, other)} as well${same}: ` +
          'each storage domain needs its own, change the path of one or remove it',
      )
    }
  }
  return problems
}

/** Where its path is written. */
export function optionOf(config: TransfersConfig, { name }: DomainSettings): string {
  const isSection = domainSections(config).some(([one]) => one === name)
  return isSection ? `[storage_domain_${name}] path` : '[transfers] storage_dir'
}
