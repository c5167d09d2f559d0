/** The one data center and its one cluster, which clients expect around hosts and storage. */
import { Type } from 'typebox'
import type { StorageDomain } from '../../model.js'
import type { Links } from '../links.js'
import type { Inventory } from '../options.js'
import { Href, Id, Link, LinkedObject } from '../schemas.js'
import type { Fields } from '../search/match.js'
import type { WireObject } from '../wire.js'

const Version = Type.Object({ major: Type.String(), minor: Type.String() })

export const DataCenterSchema = Type.Object(
  {
    href: Href,
    id: Id,
    name: Type.String(),
    local: Type.String(),
    status: Type.Literal('up'),
    storage_format: Type.String(),
    version: Version,
    link: Type.Optional(Type.Array(Link)),
  },
  { xml: { name: 'data_center' } },
)

export const ClusterSchema = Type.Object(
  {
    href: Href,
    id: Id,
    name: Type.String(),
    cpu: Type.Object({ architecture: Type.String(), type: Type.String() }),
    version: Version,
    data_center: LinkedObject,
  },
  { xml: { name: 'cluster' } },
)

const VERSION: WireObject = { major: '4', minor: '7' }

type DataCenter = Inventory['dataCenter']
type Cluster = Inventory['cluster']

export function dataCenterOf({ id, name }: DataCenter, links: Links): WireObject {
  return {
    ...links.reference('datacenters', id),
    name,
    local: 'false',
    status: 'up',
    storage_format: 'v5',
    version: VERSION,
    link: links.rels('datacenters', id, ['clusters', 'storagedomains']),
  }
}

export function clusterOf(
  { id, name, architecture, cpuType }: Cluster,
  links: Links,
  dataCenterId: string,
): WireObject {
  return {
    ...links.reference('clusters', id),
    name,
    cpu: { architecture, type: cpuType },
    version: VERSION,
    data_center: links.reference('datacenters', dataCenterId),
  }
}

export function dataCenterFields(domains: readonly StorageDomain[]): Fields<DataCenter> {
  return {
    id: ({ id }) => id,
    name: ({ name }) => name,
    status: () => 'up',
    'storage.name': () => domains.map(({ name }) => name),
  }
}

export const CLUSTER_FIELDS: Fields<Cluster> = {
  id: ({ id }) => id,
  name: ({ name }) => name,
  architecture: ({ architecture }) => architecture,
}
