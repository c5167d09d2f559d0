/** Links shown whole (transfer-api.md, 1.1: follow), to the depth that clients ask for. */
import type { Disk, Host, StorageDomain, TransferView } from '../model.js'
import type { Context } from './context.js'
import { diskOf } from './entities/disk.js'
import { hostOf } from './entities/host.js'
import { storageDomainOf } from './entities/storage-domain.js'
import { transferOf } from './entities/transfer.js'
import type { Follow } from './parameters.js'
import type { WireObject } from './wire.js'

export function followDisk(
  { settings, links }: Context,
  domains: readonly StorageDomain[],
  follow: Follow,
): (disk: Disk) => WireObject {
  if (!follow.has('storage_domains')) return (disk) => diskOf(disk, links)
  const dataCenterId = settings.inventory.dataCenter.id
  return (disk) => {
    const domain = domains.find(({ id }) => id === disk.storageDomainId)
    return diskOf(disk, links, domain && storageDomainOf(domain, links, dataCenterId))
  }
}

/** Looks up once what all transfers of a list need. */
export async function followTransfer(
  context: Context,
  follow: Follow,
): Promise<(transfer: TransferView) => WireObject> {
  const { settings, links } = context
  const { service, inventory } = settings
  const intoDisk = follow.into('disk')
  const disks = follow.has('disk') || follow.has('image') ? await service.disks() : []
  const hosts: readonly Host[] = follow.has('host') ? service.hosts() : []
  const domains = intoDisk.has('storage_domains') ? await service.storageDomains() : []
  const show = followDisk(context, domains, intoDisk)
  return (transfer) => {
    const disk = disks.find(({ id }) => id === transfer.diskId)
    const host = hosts.find(({ id }) => id === transfer.hostId)
    return transferOf(transfer, links, {
      disk: disk && show(disk),
      host: host && hostOf(host, links, inventory.cluster.id),
    })
  }
}
