/** The storage domains of the configuration, as the lifecycle sees them: each disk has its volume in one. */
import { DomainUnavailableError } from './fault.js'
import type { DomainSettings } from './inventory.js'
import type { VolumeFacts, VolumeFile, Volumes } from './lifecycle/ports.js'
import type { Disk, Id, StorageDomain } from './model.js'
import { DirectoryVolumes } from './volumes/directory-volumes.js'
import type { VolumeProvider } from './volumes/volume-provider.js'

interface Domain {
  readonly settings: DomainSettings
  readonly provider: VolumeProvider
}

export class Domains implements Volumes {
  readonly #domains: ReadonlyMap<Id, Domain>

  /** `group`: of the daemon, where it is not our own. */
  constructor(domains: readonly DomainSettings[], group?: number) {
    const withGroup = group === undefined ? {} : { group }
    this.#domains = new Map(
      domains.map((settings) => {
        const { id: domain, path } = settings
        const provider = new DirectoryVolumes({ path, domain, ...withGroup })
        return [settings.id, { settings, provider }]
      }),
    )
  }

  domains(): Promise<readonly StorageDomain[]> {
    return Promise.all([...this.#domains.values()].map(describe))
  }

  async claim(id: Id, disks: readonly Disk[] | undefined): Promise<boolean> {
    return this.#domain(id).provider.claim(disks)
  }

  async files(id: Id): Promise<readonly VolumeFile[]> {
    return this.#domain(id).provider.files()
  }

  /** The disk is new: what has its name is left from an attempt that did not end. */
  async create(disk: Disk): Promise<VolumeFacts> {
    const provider = this.#provider(disk)
    await provider.remove(disk, { wipe: disk.wipeAfterDelete })
    const { length, actualSize } = await provider.create(disk)
    return { length, allocated: actualSize }
  }

  async grow(disk: Disk): Promise<VolumeFacts> {
    const { length, actualSize } = await this.#provider(disk).grow(disk)
    return { length, allocated: actualSize }
  }

  async flush(disk: Disk): Promise<void> {
    await this.#provider(disk).flush(disk)
  }

  async remove(disk: Disk): Promise<void> {
    await this.#provider(disk).remove(disk, { wipe: disk.wipeAfterDelete })
  }

  url(disk: Disk): string {
    return this.#provider(disk).url(disk)
  }

  path(disk: Disk): string {
    return this.#provider(disk).path(disk)
  }

  async facts(disk: Disk): Promise<VolumeFacts> {
    const { length, actualSize } = await this.#provider(disk).facts(disk)
    return { length, allocated: actualSize }
  }

  /** For those who open it by its path. Throws DomainUnavailableError. */
  async readyPath(disk: Disk): Promise<string> {
    await this.#provider(disk).space()
    return this.path(disk)
  }

  #provider({ storageDomainId }: Disk): VolumeProvider {
    return this.#domain(storageDomainId).provider
  }

  #domain(id: Id): Domain {
    const domain = this.#domains.get(id)
    if (domain !== undefined) return domain
    throw new Error(`the configuration has no storage domain ${id}`)
  }
}

/** One whose directory cannot be reached takes no new disks. */
async function describe({ settings, provider }: Domain): Promise<StorageDomain> {
  try {
    return { ...settings, status: 'active', ...(await provider.space()) }
  } catch (error) {
    const problem =
      error instanceof DomainUnavailableError
        ? error.problem
        : `its directory cannot be used (${(error as NodeJS.ErrnoException).code ?? 'error'})`
    return { ...settings, status: 'inactive', problem, available: 0, used: 0 }
  }
}
