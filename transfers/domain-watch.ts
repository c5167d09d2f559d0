/**
 * Storage domains that come and go. A new one is taken at first use, by a marker in its directory and a
 * record in the database; from then on a directory without the marker is not the one it was. What has
 * changed is told in the log, and of a domain that is there, files that belong to no disk.
 */
import type { Logger } from '../core/log.js'
import type { Clock } from './clock.js'
import { DomainUnavailableError } from './fault.js'
import type { Volumes } from './lifecycle/ports.js'
import type { Id, StorageDomain } from './model.js'
import { isDiskWork, type StoredDisk } from './store/records.js'
import type { Store } from './store/store.js'

export interface DomainWatchOptions {
  readonly store: Store
  readonly volumes: Volumes
  readonly clock: Clock
  readonly logger: Logger
  /** Milliseconds between two looks. */
  readonly checkMs: number
}

/** Of these the log has the names. */
const MAX_NAMES = 20

export class DomainWatch {
  readonly #options: DomainWatchOptions
  /** Why it is not active; undefined when it is. */
  readonly #problems = new Map<Id, string | undefined>()
  #endTimer: () => void = () => undefined
  #isStopped = false

  constructor(options: DomainWatchOptions) {
    this.#options = options
  }

  /** Resolves when every domain was looked at once; goes on looking. */
  async start(): Promise<void> {
    await this.#check()
    const { clock, checkMs, logger } = this.#options
    const again = async (): Promise<void> => {
      try {
        await this.#check()
      } catch (error) {
        logger.error({ err: error }, 'storage domains cannot be looked at')
      }
      arm()
    }
    const arm = (): void => {
      if (!this.#isStopped) this.#endTimer = clock.setTimer(checkMs, () => void again())
    }
    arm()
  }

  stop(): void {
    this.#isStopped = true
    this.#endTimer()
  }

  async #check(): Promise<void> {
    const { store, volumes } = this.#options
    const { known, disks } = await store.transaction(async (records) => ({
      known: new Set(await records.domains()),
      disks: await records.disks(),
    }))
    for (const domain of await volumes.domains()) {
      const { problem } = domain
      if (problem === undefined) await this.#remember(domain, known)
      const left = problem && (await this.#claim(domain, known, disks, problem))
      await this.#tell(domain, left)
    }
  }

  /** One that is there already: of another database, or moved here. */
  async #remember({ id }: StorageDomain, known: ReadonlySet<Id>): Promise<void> {
    if (!known.has(id)) await this.#options.store.transaction((records) => records.addDomain(id))
  }

  /** What is the problem still. */
  async #claim(
    domain: StorageDomain,
    known: ReadonlySet<Id>,
    disks: readonly StoredDisk[],
    problem: string,
  ): Promise<string | undefined> {
    const { store, volumes } = this.#options
    const { id } = domain
    const own = disks.filter(({ storageDomainId }) => storageDomainId === id)
    const isKnown = known.has(id) || own.length > 0
    try {
      const isClaimed = await volumes.claim(id, isKnown ? own : undefined)
      if (!isClaimed) return problem
    } catch (error) {
      if (error instanceof DomainUnavailableError) return error.problem
      return error instanceof Error ? error.message : String(error)
    }
    await store.transaction((records) => records.addDomain(id))
    return undefined
  }

  async #tell({ id, name, path }: StorageDomain, problem: string | undefined): Promise<void> {
    if (this.#problems.has(id) && this.#problems.get(id) === problem) return
    this.#problems.set(id, problem)
    const { logger } = this.#options
    const facts = { domain: id, name, path }
    if (problem !== undefined) {
      logger.error({ ...facts, reason: problem }, 'storage domain is not active')
      return
    }
    logger.info(facts, 'storage domain is active')
    await this.#tellOrphans(id, facts)
  }

  /** Never removed: whose they are is an administrator's to find out. */
  async #tellOrphans(id: Id, facts: object): Promise<void> {
    const { store, volumes, logger } = this.#options
    const found = await volumes.files(id).catch((error: unknown) => {
      // It went away again, which the next look finds.
      logger.warn({ ...facts, err: error }, 'its files cannot be looked at')
      return []
    })
    const disks = await store.transaction((records) => records.disks())
    // Read after the files: a disk is there before its volume.
    const known = new Set(disks.map(({ imageId }) => imageId))
    const busy = new Set(
      disks.filter(({ lockedBy }) => isDiskWork(lockedBy)).map(({ imageId }) => imageId),
    )
    const orphans = found.filter(({ imageId, isUnfinished }) =>
      isUnfinished ? !busy.has(imageId) : !known.has(imageId),
    )
    if (orphans.length === 0) return
    const bytes = orphans.reduce((sum, { actualSize }) => sum + actualSize, 0)
    const names = orphans.slice(0, MAX_NAMES).map(({ name }) => name)
    logger.warn({ ...facts, count: orphans.length, bytes, names }, 'files belong to no disk')
  }
}
