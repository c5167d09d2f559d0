/** What the API asks for, done: requests are checked against the state and stored; the manager does the rest. */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../core/log.js'
import type { Clock } from './clock.js'
import { changedDisk, newDisk, newTransfer, requireActive } from './entries.js'
import { FaultError } from './fault.js'
import type { Hosts } from './hosts/hosts.js'
import { logFields } from './lifecycle/log-fields.js'
import type { Manager } from './lifecycle/manager.js'
import { isFinal, nextPhase } from './lifecycle/phases.js'
import type { Volumes } from './lifecycle/ports.js'
import type {
  Disk,
  DiskChange,
  Host,
  Id,
  NewDisk,
  NewTransfer,
  StorageDomain,
  Transfer,
  TransferAction,
  TransferService,
  TransferView,
} from './model.js'
import type { StoredDisk, StoredTransfer } from './store/records.js'
import { DuplicateError, type Store } from './store/store.js'
import { Watches } from './watches.js'

export interface ServiceOptions {
  readonly store: Store
  readonly manager: Manager
  readonly hosts: Hosts
  readonly volumes: Volumes
  readonly clock: Clock
  readonly logger: Logger
}

export class Service implements TransferService {
  readonly #options: ServiceOptions
  readonly #watches: Watches<TransferView>

  constructor(options: ServiceOptions) {
    this.#options = options
    this.#watches = new Watches((id) => this.transfer(id))
    options.manager.onChange((id) => this.#watches.changed(id))
  }

  hosts(): readonly Host[] {
    return this.#options.hosts.list()
  }

  storageDomains(): Promise<readonly StorageDomain[]> {
    return this.#options.volumes.domains()
  }

  disks(): Promise<readonly Disk[]> {
    return this.#options.store.transaction((records) => records.disks())
  }

  disk(id: Id): Promise<Disk | undefined> {
    return this.#options.store.transaction((records) => records.disk(id))
  }

  async addDisk(request: NewDisk): Promise<{ readonly disk: Disk; readonly ready: Promise<void> }> {
    const { store, manager, volumes } = this.#options
    const id = request.id ?? randomUUID()
    const disk = newDisk(request, id, await this.storageDomains(), manager.token)
    // Before there is a record, for whose volume what is there would be replaced.
    if (request.imageId !== undefined && (await hasVolume(volumes, disk))) {
      throw conflict(
        'The storage domain has an image of this image_id already; leave it out, or choose another.',
      )
    }
    try {
      await store.transaction((records) => records.addDisk(disk))
    } catch (cause) {
      if (cause instanceof DuplicateError)
        throw conflict('The id or image_id is used already; leave it out, or choose another.')
      throw cause
    }
    const ready = manager.createVolume(id)
    ready.catch(() => undefined) // logged where it failed, and not everybody waits
    return { disk, ready }
  }

  async changeDisk(id: Id, change: DiskChange): Promise<Disk> {
    const { store, manager } = this.#options
    const grows = await store.transaction(async (records) => {
      const disk = known(await records.disk(id), noDisk(id))
      requireUnlocked(disk)
      const changed = changedDisk(change, disk, manager.token)
      await records.putDisk(changed)
      return changed.lockedBy === 'growth'
    })
    if (grows) await manager.growVolume(id)
    return known(await this.disk(id), noDisk(id))
  }

  async removeDisk(id: Id): Promise<void> {
    const { store, manager } = this.#options
    const domains = await this.storageDomains()
    await store.transaction(async (records) => {
      const disk = known(await records.disk(id), noDisk(id))
      requireUnlocked(disk)
      // Its volume would be left, and known to nobody.
      requireActive(domains.find((one) => one.id === disk.storageDomainId))
      const work = { status: 'locked', lockedBy: 'removal', owner: manager.token } as const
      await records.putDisk({ ...disk, ...work })
    })
    await manager.removeVolume(id)
  }

  async transfers(): Promise<readonly TransferView[]> {
    const all = await this.#options.store.transaction((records) => records.transfers())
    return all.map((transfer) => this.#view(transfer))
  }

  async transfer(id: Id): Promise<TransferView | undefined> {
    const found = await this.#options.store.transaction((records) => records.transfer(id))
    return found && this.#view(found)
  }

  async addTransfer(request: NewTransfer, user?: string): Promise<TransferView> {
    const { store, manager, hosts, clock, logger } = this.#options
    const domains = await this.storageDomains()
    const diskId = request.diskId ?? (await this.#diskOfImage(request.imageId))
    const stored = await store.transaction(async (records) => {
      const disk = known(await records.disk(diskId), noDisk(diskId))
      const asked = newTransfer(request, disk, manager.token, clock.now())
      this.#requireHost(request.hostId, asked.backend)
      if (disk.status === 'illegal')
        throw conflict(
          'The disk is illegal, it holds no valid image; remove it, and upload to a new one.',
        )
      requireUnlocked(disk)
      requireActive(domains.find((one) => one.id === disk.storageDomainId))
      requireUsable(hosts, asked.backend)
      const hostId = asked.hostId ?? hosts.choose(asked.backend)?.settings.id
      const transfer = { ...asked, hostId }
      await records.putDisk({
        ...disk,
        status: 'locked',
        lockedBy: transfer.id,
        // An upload that ends otherwise than it should leaves nothing to return to.
        statusBeforeLock: transfer.direction === 'download' ? disk.status : undefined,
      })
      await records.addTransfer(transfer)
      return transfer
    })
    const { format, backend } = stored
    logger.info({ ...logFields(stored), format, backend, user }, 'transfer created')
    manager.drive(stored.id)
    return this.#view(stored)
  }

  async act(id: Id, action: TransferAction, user?: string): Promise<void> {
    const { store, manager, clock, logger } = this.#options
    const changed = await store.transaction(async (records) => {
      const transfer = known(
        await records.transfer(id),
        `There is no image transfer ${id}; those that ended are forgotten after a while.`,
      )
      const phase = nextPhase(transfer.phase, action, transfer)
      const isSignOfLife = (action === 'extend' || action === 'resume') && !isFinal(phase)
      if (phase === transfer.phase && !isSignOfLife) return undefined
      const now = clock.now()
      const lastExtended = isSignOfLife ? now : transfer.lastExtended
      const message = messageAfter(action, transfer, user)
      await records.putTransfer({ ...transfer, phase, message, lastExtended, updatedAt: now })
      return { transfer, phase }
    })
    if (changed !== undefined) {
      const { transfer, phase } = changed
      const facts = { ...logFields(transfer), from: transfer.phase, phase, user }
      // A client that keeps its transfer alive does it again and again.
      logger[action === 'extend' ? 'debug' : 'info'](facts, `transfer: ${action}`)
    }
    manager.wake(id)
  }

  watch(id: Id, onChange: (transfer: TransferView | undefined) => void): () => void {
    return this.#watches.add(id, onChange)
  }

  /** Clients name a snapshot by its image, and old ones a disk by what is its image id elsewhere. */
  async #diskOfImage(imageId: Id | undefined): Promise<Id> {
    const disks = await this.disks()
    const disk =
      disks.find((one) => one.imageId === imageId) ?? disks.find(({ id }) => id === imageId)
    return known(disk, `There is no image ${String(imageId)}; see image_id of the disks.`).id
  }

  #requireHost(id: Id | undefined, backend: Transfer['backend']): void {
    if (id === undefined) return
    const host = known(this.#options.hosts.get(id), `There is no host ${id}; see /hosts.`)
    if (!host.isUp)
      throw conflict('The host is not up; leave it out for any other, or ask again when it is.')
    if (backend === 'nbd' && !host.settings.hasNbdServers) {
      throw conflict(
        'The host has no NBD servers; ask for the format of the disk, or another host.',
      )
    }
  }

  /** Before the ticket is known to be there it is not told: it may never be, or come any time. */
  #view(transfer: StoredTransfer): TransferView {
    const { hosts } = this.#options
    const { hostId, ticketId, sessionExpires, isRefusedByProxy = false } = transfer
    if (ticketId === undefined || sessionExpires === 0) {
      return { ...transfer, transferUrl: undefined, proxyUrl: undefined }
    }
    return {
      ...transfer,
      transferUrl: hosts.transferUrl(hostId, ticketId),
      proxyUrl: isRefusedByProxy ? undefined : hosts.proxyUrl(hostId, ticketId),
    }
  }
}

/** Of a disk that nobody knows any more, whose data may be all that is left of it. */
async function hasVolume(volumes: Volumes, disk: Disk): Promise<boolean> {
  try {
    await volumes.facts(disk)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/** What the service had said of it before is not why it ends now. */
function messageAfter(
  action: TransferAction,
  { message }: Transfer,
  user: string | undefined,
): string | undefined {
  if (action === 'cancel') return user === undefined ? undefined : `cancelled by ${user}`
  return action === 'finalize' ? undefined : message
}

/** Whichever of them it will be. */
function requireUsable(hosts: Hosts, backend: Transfer['backend']): void {
  if (hosts.hasUsable(backend)) return
  if (!hosts.hasUsable('file')) {
    throw conflict('No host is up; see /hosts, and ask again when one is.')
  }
  throw conflict(
    hosts.hasNbdServers
      ? 'No host with NBD servers is up; ask again when one is, or ask for the format of the disk.'
      : 'No host has NBD servers, so the guest data of this disk cannot be moved; ask for the format of the disk.',
  )
}

function known<T>(found: T | undefined, detail: string): T {
  if (found === undefined) throw new FaultError(404, 'Not Found', detail)
  return found
}

function noDisk(id: Id): string {
  return `There is no disk ${id}; see /disks.`
}

function conflict(detail: string): FaultError {
  return new FaultError(409, 'Operation Failed', detail)
}

function requireUnlocked({ lockedBy, status }: StoredDisk): void {
  if (lockedBy === undefined && status !== 'locked') return
  if (lockedBy === 'creation')
    throw conflict('The disk is being created; poll it until its status is ok.')
  if (lockedBy === 'growth')
    throw conflict('The disk is being grown; poll it until its status is ok.')
  if (lockedBy === 'removal') throw conflict('The disk is being removed; it will be gone.')
  throw conflict(
    `The disk is in use by the transfer ${lockedBy ?? '?'}; wait for its end, or cancel it.`,
  )
}
