/**
 * A transfer service in memory: the API is tested on its own, and what is behind it has its own tests.
 * It refuses what the real one refuses for reasons of state, and moves phases when it is told to.
 */
import { EventEmitter } from 'node:events'
import { randomUUID } from 'node:crypto'
import { FaultError } from '../../../transfers/fault.js'
import type {
  Disk,
  DiskChange,
  Host,
  Id,
  NewDisk,
  NewTransfer,
  StorageDomain,
  TransferAction,
  TransferService,
  TransferView,
} from '../../../transfers/model.js'

export const HOST: Host = {
  id: '456',
  name: 'host1',
  address: 'host1.example',
  hardwareId: '4c4c4544-0044-4a10-8035-b4c04f4d3233',
  isUp: true,
}

export const DOMAIN: StorageDomain = {
  id: 'c0ffee00-0000-4000-8000-000000000001',
  name: 'sd1',
  path: '/exports/sd1',
  status: 'active',
  available: 80_530_636_800,
  used: 1_073_741_824,
}

const FINAL = ['finished_success', 'finished_failure', 'finished_cleanup']

export class FakeService implements TransferService {
  readonly allDisks = new Map<Id, Disk>()
  readonly allTransfers = new Map<Id, TransferView>()
  readonly actions: [Id, TransferAction][] = []
  readonly newDisks: NewDisk[] = []
  readonly diskChanges: DiskChange[] = []
  readonly newTransfers: NewTransfer[] = []
  readonly #changes = new EventEmitter().setMaxListeners(0)
  /** Settles the creation of disks; by default at once. */
  ready: () => Promise<void> = () => Promise.resolve()
  /** A second host that is down, for searches. */
  allHosts: Host[] = [HOST]

  get watchers(): number {
    const names = this.#changes.eventNames()
    return names.reduce((sum, name) => sum + this.#changes.listenerCount(name), 0)
  }

  hosts(): readonly Host[] {
    return this.allHosts
  }

  async storageDomains(): Promise<readonly StorageDomain[]> {
    return [DOMAIN]
  }

  async disks(): Promise<readonly Disk[]> {
    return [...this.allDisks.values()]
  }

  async disk(id: Id): Promise<Disk | undefined> {
    return this.allDisks.get(id)
  }

  /** A free disk, for transfers. */
  putDisk(id: Id, changes: Partial<Disk> = {}): Disk {
    const disk: Disk = {
      id,
      imageId: `image-of-${id}`,
      name: `disk ${id}`,
      description: '',
      format: 'raw',
      provisionedSize: 1_073_741_824,
      initialSize: undefined,
      sparse: true,
      backup: 'none',
      contentType: 'data',
      shareable: false,
      propagateErrors: false,
      wipeAfterDelete: false,
      storageDomainId: DOMAIN.id,
      status: 'ok',
      lockedBy: undefined,
      statusBeforeLock: undefined,
      qcowVersion: undefined,
      actualSize: 0,
      ...changes,
    }
    this.allDisks.set(id, disk)
    return disk
  }

  async addDisk(disk: NewDisk): Promise<{ disk: Disk; ready: Promise<void> }> {
    this.newDisks.push(disk)
    const { id = randomUUID(), storageDomain } = disk
    const wanted = storageDomain ?? { id: DOMAIN.id }
    if ('id' in wanted ? wanted.id !== DOMAIN.id : wanted.name !== DOMAIN.name) {
      throw new FaultError(404, 'Not Found', 'There is no such storage domain')
    }
    if (this.allDisks.has(id)) {
      throw new FaultError(409, 'Operation Failed', 'The id is already used')
    }
    const { imageId = randomUUID(), name = id } = disk
    const qcowVersion = disk.format === 'cow' ? 'qcow2_v3' : undefined
    const facts = { ...disk, id, imageId, name, qcowVersion } as const
    const locked = this.putDisk(id, { ...facts, status: 'locked', lockedBy: 'creation' })
    const ready = this.ready().then(() => void this.putDisk(id, facts))
    return { disk: locked, ready }
  }

  async changeDisk(id: Id, change: DiskChange): Promise<Disk> {
    const disk = this.allDisks.get(id)
    if (disk === undefined) throw new FaultError(404, 'Not Found', 'There is no such disk')
    if (disk.status === 'locked')
      throw new FaultError(409, 'Operation Failed', 'The disk is locked')
    this.diskChanges.push(change)
    return this.putDisk(id, { ...disk, ...change })
  }

  async removeDisk(id: Id): Promise<void> {
    const disk = this.allDisks.get(id)
    if (disk === undefined) throw new FaultError(404, 'Not Found', 'There is no such disk')
    if (disk.status === 'locked')
      throw new FaultError(409, 'Operation Failed', 'The disk is locked')
    this.allDisks.delete(id)
  }

  async transfers(): Promise<readonly TransferView[]> {
    return [...this.allTransfers.values()]
  }

  async transfer(id: Id): Promise<TransferView | undefined> {
    return this.allTransfers.get(id)
  }

  async addTransfer(wanted: NewTransfer): Promise<TransferView> {
    this.newTransfers.push(wanted)
    const { diskId, imageId, hostId, format, ...rest } = wanted
    const disk = [...this.allDisks.values()].find((each) =>
      diskId === undefined ? each.imageId === imageId : each.id === diskId,
    )
    if (disk === undefined) throw new FaultError(404, 'Not Found', 'There is no such disk')
    if (disk.status !== 'ok') throw new FaultError(409, 'Operation Failed', 'The disk is locked')
    if (hostId !== undefined && !this.allHosts.some(({ id }) => id === hostId)) {
      throw new FaultError(404, 'Not Found', 'There is no such host')
    }
    const id = randomUUID()
    this.putDisk(disk.id, { ...disk, status: 'locked', lockedBy: id })
    const transfer: TransferView = {
      ...rest,
      id,
      createdAt: 0,
      updatedAt: 0,
      phase: 'initializing',
      diskId: disk.id,
      hostId: hostId ?? HOST.id,
      isHostFixed: hostId !== undefined,
      ticketId: undefined,
      requestedFormat: format,
      format: format ?? disk.format,
      backend: format === 'raw' ? 'nbd' : 'file',
      size: disk.provisionedSize,
      transferred: 0,
      isActive: false,
      sessionExpires: 0,
      renewalFailures: 0,
      lastExtended: 0,
      message: undefined,
      transferUrl: undefined,
      proxyUrl: undefined,
    }
    this.allTransfers.set(id, transfer)
    return transfer
  }

  /** As the engine behind would. */
  change(id: Id, changes: Partial<TransferView>): void {
    const transfer = this.allTransfers.get(id)
    if (transfer === undefined) throw new Error('no such transfer')
    const changed = { ...transfer, ...changes }
    this.allTransfers.set(id, changed)
    this.#changes.emit(id, changed)
  }

  /** The session is established. */
  begin(id: Id): void {
    const ticket = '41c732d4-2210-4e7b-9e5c-4e2805baadbb'
    this.change(id, {
      phase: 'transferring',
      transferUrl: `https://host1.example:54322/images/${ticket}`,
      proxyUrl: `https://engine.example:54323/images/${ticket}`,
    })
  }

  forget(id: Id): void {
    this.allTransfers.delete(id)
    this.#changes.emit(id, undefined)
  }

  async act(id: Id, action: TransferAction): Promise<void> {
    const transfer = this.allTransfers.get(id)
    if (transfer === undefined) {
      throw new FaultError(404, 'Not Found', 'There is no such image transfer')
    }
    const { phase, direction, diskId } = transfer
    if (action === 'resume' && !phase.startsWith('paused')) {
      throw new FaultError(409, 'Operation Failed', 'The transfer is not paused')
    }
    if (action === 'pause' && direction === 'download') {
      throw new FaultError(400, 'Operation Failed', 'Downloads cannot be paused')
    }
    this.actions.push([id, action])
    if (FINAL.includes(phase) || action === 'extend') return
    if (action === 'pause') this.change(id, { phase: 'paused_user' })
    if (action === 'resume') this.change(id, { phase: 'resuming' })
    if (action === 'cancel') this.change(id, { phase: 'cancelled_user' })
    if (action !== 'finalize') return
    this.change(id, { phase: 'finished_success', transferUrl: undefined, proxyUrl: undefined })
    this.putDisk(diskId, { ...this.allDisks.get(diskId), status: 'ok', lockedBy: undefined })
  }

  watch(id: Id, onChange: (transfer: TransferView | undefined) => void): () => void {
    this.#changes.on(id, onChange)
    return () => this.#changes.off(id, onChange)
  }
}
