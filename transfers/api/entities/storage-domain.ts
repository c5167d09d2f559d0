/** A storage domain as the API shows it. */
import { Type } from 'typebox'
import type { Id, StorageDomain } from '../../model.js'
import type { Links } from '../links.js'
import { Href, Id as IdSchema, Link, LinkedObject, Size } from '../schemas.js'
import type { Fields } from '../search/match.js'
import type { WireObject } from '../wire.js'

export const StorageDomainSchema = Type.Object(
  {
    href: Href,
    id: IdSchema,
    name: Type.String(),
    available: Size('Free bytes'),
    block_size: Size('Bytes'),
    committed: Size('Bytes'),
    discard_after_delete: Type.String(),
    external_status: Type.String(),
    master: Type.String(),
    status: Type.Enum(['active', 'maintenance', 'inactive']),
    storage: Type.Object({
      path: Type.String(),
      type: Type.Literal('localfs'),
    }),
    storage_format: Type.String(),
    supports_discard: Type.String(),
    type: Type.Literal('data'),
    used: Size('Bytes'),
    data_centers: Type.Object({ data_center: Type.Array(LinkedObject) }),
    link: Type.Array(Link),
  },
  { xml: { name: 'storage_domain' } },
)

export function storageDomainOf(domain: StorageDomain, links: Links, dataCenterId: Id): WireObject {
  const { id, name, path, status, available, used } = domain
  return {
    ...links.reference('storagedomains', id),
    name,
    available: String(available),
    block_size: '512',
    committed: '0',
    discard_after_delete: 'false',
    external_status: 'ok',
    master: 'true',
    status,
    storage: { path, type: 'localfs' },
    storage_format: 'v5',
    supports_discard: 'false',
    type: 'data',
    used: String(used),
    data_centers: { data_center: [links.reference('datacenters', dataCenterId)] },
    link: links.rels('storagedomains', id, ['disks', 'disksnapshots']),
  }
}

export const STORAGE_DOMAIN_FIELDS: Fields<StorageDomain> = {
  id: ({ id }) => id,
  name: ({ name }) => name,
  status: ({ status }) => status,
}
