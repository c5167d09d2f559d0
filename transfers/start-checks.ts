/** What is looked at when the service starts: what it cannot work without, and what keeps clients from working. */
import type { Logger } from '../core/log.js'
import type { TransfersConfig } from './options.js'
import { sharedDirectories } from './distinct-directories.js'
import type { Hosts } from './hosts/hosts.js'
import type { Volumes } from './lifecycle/ports.js'
import { checkLogins } from './logins.js'
import { checkRunDir } from './run-dir-check.js'
import { requireFree } from './serve.js'

/** Throws an Error that says what to mend. */
export async function requireUsable(config: TransfersConfig, logger: Logger): Promise<void> {
  const logins = await checkLogins(config.transfers.password_file)
  const problems = [...(await sharedDirectories(config)), ...logins.problems]
  if (problems.length > 0) throw new Error(problems.join('\n'))
  for (const warning of logins.warnings) logger.warn(warning)
  // Only transfers of guest data need it, and by then it may be there.
  const { problems: lacks } = await checkRunDir(config.transfers.run_dir)
  for (const lack of lacks) {
    logger.warn(
      `${lack}: no transfer with format raw of a qcow2 disk can begin; make it, or mend run_dir`,
    )
  }
  await requireFree(config.transfers)
}

/** Each host and domain has its own line; these say what it means that there is none. */
export async function warnOfLacks(hosts: Hosts, volumes: Volumes, logger: Logger): Promise<void> {
  if (!hosts.list().some(({ isUp }) => isUp)) {
    logger.warn(
      'no host is up, every transfer is refused: start a daemon, or mend control_socket of ' +
        '[transfers] and control_url of [host_NAME]',
    )
  }
  const domains = await volumes.domains()
  if (!domains.some(({ status }) => status === 'active')) {
    logger.warn(
      'no storage domain is active, no disk can be made or moved: mount a directory, or mend ' +
        'storage_dir of [transfers] and path of [storage_domain_NAME]',
    )
  }
}
