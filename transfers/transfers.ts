/** Puts the transfer service together: store, hosts, manager, and what serves the API. Nothing is global. */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Logger } from '../core/log.js'
import type { RunningServer } from '../core/process/main.js'
import type { StartOptions } from '../core/process/server.js'
import { systemClock } from './clock.js'
import type { TransfersConfig } from './options.js'
import { isPostgres } from './database.js'
import { faultOfFile, reasonsOf } from './database-check.js'
import { DomainWatch } from './domain-watch.js'
import { Hosts } from './hosts/hosts.js'
import { controlTls, hostsOf, proxyOf } from './inventory.js'
import type { Policies, Timers } from './lifecycle/context.js'
import { Manager } from './lifecycle/manager.js'
import type { NbdServers, Verifier, Volumes } from './lifecycle/ports.js'
import type { TransferService } from './model.js'
import { Service } from './service.js'
import { requireUsable, warnOfLacks } from './start-checks.js'
import { PostgresStore } from './store/postgres-store.js'
import { claimFile } from './store/sqlite-claim.js'
import { SqliteStore } from './store/sqlite-store.js'
import type { Store } from './store/store.js'

type Options = StartOptions<TransfersConfig>

/** What the engine needs, and what needs the engine. */
export interface Parts {
  readonly volumes: Volumes
  readonly verifier: Verifier
  readonly nbd: NbdServers
  /** Resolves when clients are served. */
  readonly serve: (service: TransferService) => Promise<RunningServer<TransfersConfig>>
}

/** Resolves when clients are served. Rejects with what an administrator has to mend. */
export async function startTransfers(
  { config, logger }: Options,
  parts: Parts,
): Promise<RunningServer<TransfersConfig>> {
  const { volumes, verifier, nbd } = parts
  const { transfers } = config
  await requireUsable(config, logger)
  const hosts = new Hosts({
    hosts: hostsOf(config),
    proxy: proxyOf(config),
    controlTimeoutMs: transfers.control_timeout * 1000,
    removeTimeoutMs: transfers.remove_timeout * 1000,
    checkMs: transfers.host_check_interval * 1000,
    clock: systemClock,
    logger,
  })
  const { store, release } = await openStore(config, logger)
  const common = { store, hosts, volumes, clock: systemClock, logger }
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => undefined) // nobody may be there to hear of it yet
  const manager = new Manager({
    ...common,
    verifier,
    nbd,
    timers: timersOf(config),
    policies: policiesOf(config),
    name: transfers.instance,
    callMs: transfers.control_timeout * 1000,
    onOver: failed.reject,
  })
  const checkMs = transfers.host_check_interval * 1000
  const domains = new DomainWatch({ store, volumes, clock: systemClock, logger, checkMs })
  const end = async (): Promise<void> => {
    hosts.stop()
    domains.stop()
    await manager.stop()
    await store.close()
    release()
  }
  try {
    // A transfer needs to know which hosts are up, a client that nothing half-done is in its way.
    await hosts.start()
    await domains.start()
    await warnOfLacks(hosts, volumes, logger)
    await manager.start()
    const server = await parts.serve(new Service({ ...common, manager }))
    return {
      failed: failed.promise,
      reload: (changed) => {
        const tls = hosts.usesTls ? controlTls(changed) : undefined
        server.reload(changed)
        if (tls === undefined) return
        hosts.replaceCertificates(tls)
        logger.info('certificates for control services reloaded')
      },
      stop: async () => {
        await server.stop()
        await end()
      },
    }
  } catch (error) {
    await end().catch((cause: unknown) => logger.error({ err: cause }, 'cannot stop orderly'))
    throw error
  }
}

/** `release` ends the claim on it. */
interface OpenStore {
  readonly store: Store
  readonly release: () => void
}

async function openStore({ transfers }: TransfersConfig, logger: Logger): Promise<OpenStore> {
  const { database, database_wait } = transfers
  try {
    if (!isPostgres(database)) return await openFile(database)
    const onWait = (reason: Error): void => {
      logger.warn({ reason: reasonsOf(reason.cause) }, 'waiting for the database')
    }
    const options = { patienceMs: database_wait * 1000, onWait }
    return { store: await PostgresStore.open(database, options), release: () => undefined }
  } catch (cause) {
    const reason = reasonsOf(cause)
    // Not the URL: it has the password.
    const name = isPostgres(database) ? 'PostgreSQL' : database
    throw new Error(`cannot use the database, ${name}: ${reason}`, { cause })
  }
}

async function openFile(path: string): Promise<OpenStore> {
  const fault = await faultOfFile(path)
  if (fault !== undefined) throw new Error(fault)
  // Its directory alone: a new database somewhere else would have forgotten every disk.
  if (!existsSync(dirname(path))) mkdirSync(dirname(path), { mode: 0o700 })
  const release = await claimFile(path)
  try {
    return { store: await SqliteStore.open(path), release }
  } catch (error) {
    release()
    throw error
  }
}

function timersOf({ transfers }: TransfersConfig): Timers {
  return {
    pollMs: transfers.poll_interval * 1000,
    ticketSeconds: transfers.ticket_timeout,
    renewalMs: transfers.ticket_renewal * 1000,
    graceMs: transfers.unreachable_grace * 1000,
    proxyCheckMs: transfers.proxy_check_interval * 1000,
    pauseLogMs: transfers.pause_log_interval * 1000,
    successRetentionMs: transfers.success_retention * 1000,
    failureRetentionMs: transfers.failure_retention * 1000,
    expiryMs: transfers.cleanup_interval * 1000,
    leaseMs: transfers.lease_timeout * 1000,
  }
}

function policiesOf({ transfers }: TransfersConfig): Policies {
  return {
    deleteInvalidDisks: transfers.delete_invalid_disks,
    protectExistingDisks: transfers.protect_existing_disks,
  }
}
