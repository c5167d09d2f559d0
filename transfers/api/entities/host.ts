/** A host as the API shows it. */
import { Type } from 'typebox'
import type { Host, Id } from '../../model.js'
import type { Links } from '../links.js'
import { Href, Id as IdSchema, LinkedObject } from '../schemas.js'
import type { Fields } from '../search/match.js'
import type { Inventory } from '../options.js'
import type { WireObject } from '../wire.js'

export const HostSchema = Type.Object(
  {
    href: Href,
    id: IdSchema,
    name: Type.String(),
    address: Type.String({ description: 'Where its daemon is reached' }),
    status: Type.Enum(['up', 'down']),
    type: Type.Literal('rhel'),
    hardware_information: Type.Optional(
      Type.Object({
        uuid: Type.String({
          description:
            'Content of its /etc/vdsm/vdsm.id, by which a client finds the host it runs on',
        }),
      }),
    ),
    cluster: LinkedObject,
  },
  { xml: { name: 'host' } },
)

export function hostOf(host: Host, links: Links, clusterId: Id): WireObject {
  const { id, name, address, hardwareId, isUp } = host
  return {
    ...links.reference('hosts', id),
    name,
    address,
    status: isUp ? 'up' : 'down',
    type: 'rhel',
    hardware_information: hardwareId === undefined ? undefined : { uuid: hardwareId },
    cluster: links.reference('clusters', clusterId),
  }
}

export function hostFields({ dataCenter, cluster }: Inventory): Fields<Host> {
  return {
    id: ({ id }) => id,
    name: ({ name }) => name,
    address: ({ address }) => address,
    status: ({ isUp }) => (isUp ? 'up' : 'down'),
    hw_id: ({ hardwareId }) => hardwareId,
    datacenter: () => dataCenter.name,
    cluster: () => cluster.name,
  }
}
