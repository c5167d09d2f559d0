import { answers, found, IdParams, listOf, parametersOf, SEARCH_PARAMETERS } from '../context.js'
import type { Context } from '../context.js'
import { hostFields, hostOf, HostSchema } from '../entities/host.js'
import { searched } from '../search/match.js'
import { Type } from 'typebox'
import { Representation } from '../wire.js'

export function hostRoutes({ app, settings, links }: Context): void {
  const { service, inventory } = settings
  const fields = hostFields(inventory)
  app.route({
    method: 'GET',
    url: '/hosts',
    schema: {
      summary: 'Hosts, each with a daemon',
      querystring: Type.Object(SEARCH_PARAMETERS),
      response: answers({ 200: listOf('hosts', 'host', HostSchema) }, 400),
    },
    handler: async (request) => {
      const hosts = searched(service.hosts(), fields, parametersOf(request))
      const host = hosts.map((host) => hostOf(host, links, inventory.cluster.id))
      return new Representation('hosts', { host })
    },
  })
  app.route({
    method: 'GET',
    url: '/hosts/:id',
    schema: {
      summary: 'One host',
      params: IdParams,
      response: answers({ 200: HostSchema }, 404),
    },
    handler: async ({ params }) => {
      const host = found(
        'host',
        service.hosts().find(({ id }) => id === params.id),
      )
      return new Representation('host', hostOf(host, links, inventory.cluster.id))
    },
  })
}
