/** A disk as the API shows it, and the one snapshot each has. */
import { Type } from 'typebox'
import type { Disk, StorageDomain } from '../../model.js'
import type { Links } from '../links.js'
import { Actions, Href, Id, Link, LinkedObject, OptionalSize, Size } from '../schemas.js'
import type { Fields } from '../search/match.js'
import { optional, type WireObject } from '../wire.js'

/** What an engine's disks can do besides. Clients may look for the links; here each is refused. */
export const DISK_ACTIONS = [
  ...(['convert', 'copy', 'export', 'move', 'reduce', 'refreshlun', 'sparsify'] as const),
] as const

/** What an engine's disks have besides, and disks here have none of, with its members. */
export const DISK_COLLECTIONS = ['permissions', 'statistics'] as const

export const DiskSchema = Type.Object(
  {
    href: Href,
    id: Id,
    actions: Actions,
    name: Type.String(),
    alias: Type.String({ description: 'The same as `name`' }),
    description: Type.String(),
    actual_size: Size('Bytes allocated'),
    backup: Type.Enum(['none', 'incremental']),
    content_type: Type.String(),
    format: Type.Enum(['raw', 'cow']),
    image_id: Type.String(),
    propagate_errors: Type.String(),
    provisioned_size: Size('Bytes the guest sees'),
    qcow_version: Type.Optional(Type.Enum(['qcow2_v2', 'qcow2_v3'])),
    shareable: Type.String(),
    sparse: Type.String(),
    status: Type.Enum(['locked', 'ok', 'illegal'], {
      description:
        '`locked` while it is made or a transfer uses it; `illegal` when an upload was not what it should be',
    }),
    storage_type: Type.Literal('image'),
    total_size: OptionalSize('Bytes allocated'),
    wipe_after_delete: Type.String(),
    creation_status: Type.Optional(Type.Literal('pending')),
    storage_domains: Type.Object({
      storage_domain: Type.Array(LinkedObject, { description: 'Whole with `follow`' }),
    }),
    link: Type.Array(Link),
  },
  { xml: { name: 'disk' } },
)

/** `domain`: what to show of the storage domain instead of a reference. */
export function diskOf(disk: Disk, links: Links, domain?: WireObject): WireObject {
  const { id, name, description, storageDomainId } = disk
  return {
    ...links.reference('disks', id),
    actions: links.actions('disks', id, DISK_ACTIONS),
    name,
    description,
    actual_size: String(disk.actualSize),
    alias: name,
    backup: disk.backup,
    content_type: disk.contentType,
    format: disk.format,
    image_id: disk.imageId,
    propagate_errors: String(disk.propagateErrors),
    provisioned_size: String(disk.provisionedSize),
    qcow_version: optional(disk.qcowVersion),
    shareable: String(disk.shareable),
    sparse: String(disk.sparse),
    status: disk.status,
    storage_type: 'image',
    total_size: String(disk.actualSize),
    wipe_after_delete: String(disk.wipeAfterDelete),
    storage_domains: {
      storage_domain: [domain ?? links.reference('storagedomains', storageDomainId)],
    },
    link: links.rels('disks', id, ['disksnapshots', ...DISK_COLLECTIONS]),
  }
}

export const DiskSnapshotSchema = Type.Object(
  {
    href: Href,
    id: Id,
    description: Type.String(),
    format: Type.Enum(['raw', 'cow']),
    actual_size: Size('Bytes allocated'),
    provisioned_size: Size('Bytes the guest sees'),
    status: Type.Enum(['locked', 'ok', 'illegal']),
    disk: LinkedObject,
    storage_domains: Type.Object({ storage_domain: Type.Array(LinkedObject) }),
  },
  { xml: { name: 'disk_snapshot' } },
)

/** Its id is the image's; it is found below the storage domain, as clients look for it. */
export function diskSnapshotOf(disk: Disk, links: Links): WireObject {
  const { id, imageId, storageDomainId } = disk
  return {
    href: links.to('storagedomains', storageDomainId, 'disksnapshots', imageId),
    id: imageId,
    description: 'Active',
    format: disk.format,
    actual_size: String(disk.actualSize),
    provisioned_size: String(disk.provisionedSize),
    status: disk.status,
    disk: links.reference('disks', id),
    storage_domains: {
      storage_domain: [links.reference('storagedomains', storageDomainId)],
    },
  }
}

export function diskFields(domains: readonly StorageDomain[]): Fields<Disk> {
  const names = new Map(domains.map(({ id, name }) => [id, name]))
  const storage = ({ storageDomainId }: Disk): string | undefined => names.get(storageDomainId)
  return {
    id: ({ id }) => id,
    name: ({ name }) => name,
    alias: ({ name }) => name,
    description: ({ description }) => description,
    status: ({ status }) => status,
    format: ({ format }) => format,
    storage,
    'storage.name': storage,
    provisioned_size: ({ provisionedSize }) => provisionedSize,
    disk_type: () => 'image',
    disk_content_type: ({ contentType }) => contentType,
  }
}
