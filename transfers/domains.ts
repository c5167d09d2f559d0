/** The storage domains of the configuration, as the lifecycle sees them: each disk has its volume in one. */
import type { DomainSettings } from './inventory.js'
import type { VolumeFacts, Volumes } from './lifecycle/ports.js'
import type { Disk, Id, StorageDomain } from './model.js'
import { DirectoryVolumes } from './volumes/directory-volumes.js'
import type { VolumeProvider } from './volumes/volume-provider.js'

interface Domain {
  readonly settings: DomainSettings
  readonly provider: VolumeProvider
}

export class Domains implements Volumes {
  readonly #domains: ReadonlyMap<Id, Domain>

  constructor(domains: readonly DomainSettings[]) {
    this.#domains = new Map(
      domains.map((settings) => {
        const provider = new DirectoryVolumes({ path: settings.path })
        return [settings.id, { settings, provider }]
      }),
    )
  }

  domains(): Promise<readonly StorageDomain[]> {
    return Promise.all([...this.#domains.values()].map(describe))
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

  #provider({ storageDomainId }: Disk): VolumeProvider {
    const domain = this.#domains.get(storageDomainId)
    if (domain !== undefined) return domain.provider
    throw new Error(`the configuration has no storage domain ${storageDomainId}`)
  }
}

/** One whose directory cannot be reached takes no new disks. */
async function describe({ settings, provider }: Domain): Promise<StorageDomain> {
  try {
    return { ...settings, status: 'active', ...(await provider.space()) }
  } catch {
    return { ...settings, status: 'inactive', available: 0, used: 0 }
  }
}
