/** The root, from whose links libgovirt finds everything (transfer-api.md, 4). */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import { answers, type Context } from '../context.js'
import { Href, Id, Link, LinkedObject } from '../schemas.js'
import { date, Representation, type WireObject } from '../wire.js'

/** Older client code branches on it: this is what has all that it looks for. */
const VERSION = {
  build: '0',
  full_version: '4.5.0-1',
  major: '4',
  minor: '5',
  revision: '0',
} as const

const NULL_ID = '00000000-0000-0000-0000-000000000000'

const SEARCHABLE = ['clusters', 'datacenters', 'disks', 'hosts', 'storagedomains', 'vms'] as const
const COLLECTIONS = [...SEARCHABLE, 'imagetransfers', 'jobs'].sort()

const Count = Type.Object({ active: Type.String(), total: Type.String() })

const RootSchema = Type.Object(
  {
    link: Type.Array(Link),
    product_info: Type.Object({
      instance_id: Type.String(),
      name: Type.String(),
      vendor: Type.String(),
      version: Type.Object({
        build: Type.String(),
        full_version: Type.String(),
        major: Type.String(),
        minor: Type.String(),
        revision: Type.String(),
      }),
    }),
    special_objects: Type.Object({ blank_template: LinkedObject, root_tag: LinkedObject }),
    summary: Type.Object({ hosts: Count, storage_domains: Count, users: Count, vms: Count }),
    time: Type.String(),
    authenticated_user: Type.Object({ href: Href, id: Id }),
    effective_user: Type.Object({ href: Href, id: Id }),
  },
  { xml: { name: 'api' } },
)

export function rootRoutes({ app, settings, links, vms }: Context): void {
  const { service, clock, instanceId } = settings
  const { base } = links
  const link: WireObject[] = COLLECTIONS.flatMap((rel) => [
    { href: `${base}/${rel}`, rel },
    ...(SEARCHABLE.some((name) => name === rel)
      ? [{ href: `${base}/${rel}?search={query}`, rel: `${rel}/search` }]
      : []),
  ])
  app.route({
    method: 'GET',
    url: '',
    schema: { summary: 'Where everything is', response: answers({ 200: RootSchema }) },
    handler: async (request) => {
      const [domains, machines] = await Promise.all([service.storageDomains(), vms.vms()])
      const hosts = service.hosts()
      const id = userId(request.user)
      const user = { href: `${base}/users/${id}`, id }
      return new Representation('api', {
        link,
        product_info: {
          instance_id: instanceId,
          name: 'imageio transfers',
          vendor: 'imageio',
          version: VERSION,
        },
        special_objects: {
          blank_template: { href: `${base}/templates/${NULL_ID}`, id: NULL_ID },
          root_tag: { href: `${base}/tags/${NULL_ID}`, id: NULL_ID },
        },
        summary: {
          hosts: count(hosts.length, hosts.filter(({ isUp }) => isUp).length),
          storage_domains: count(
            domains.length,
            domains.filter(({ status }) => status === 'active').length,
          ),
          users: count(1, 1),
          vms: count(machines.length, 0),
        },
        time: date(clock.now()),
        authenticated_user: user,
        effective_user: user,
      })
    },
  })
}

function count(total: number, active: number): WireObject {
  return { active: String(active), total: String(total) }
}

/** Users have names only; an id in the form of a UUID that stays the same is made of it. */
function userId(name: string): string {
  const digest = createHash('sha256').update(name).digest('hex')
  return digest.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
