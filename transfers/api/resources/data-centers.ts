import { Type } from 'typebox'
import { answers, found, IdParams, listOf, parametersOf, SEARCH_PARAMETERS } from '../context.js'
import type { Context } from '../context.js'
import {
  CLUSTER_FIELDS,
  clusterOf,
  ClusterSchema,
  dataCenterFields,
  dataCenterOf,
  DataCenterSchema,
} from '../entities/data-center.js'
import {
  STORAGE_DOMAIN_FIELDS,
  storageDomainOf,
  StorageDomainSchema,
} from '../entities/storage-domain.js'
import { followOf } from '../parameters.js'
import { searched } from '../search/match.js'
import { Representation, type WireObject } from '../wire.js'

export function dataCenterRoutes({ app, settings, links }: Context): void {
  const { service, inventory } = settings
  const { dataCenter, cluster } = inventory
  const oneCluster = (): WireObject => clusterOf(cluster, links, dataCenter.id)
  const querystring = Type.Object(SEARCH_PARAMETERS)

  const oneDataCenter = async (followed: string | undefined): Promise<WireObject> => {
    const follow = followOf(followed)
    const domains = follow.has('storage_domains') ? await service.storageDomains() : undefined
    return {
      ...dataCenterOf(dataCenter, links),
      clusters: follow.has('clusters') ? { cluster: [oneCluster()] } : undefined,
      storage_domains: domains && {
        storage_domain: domains.map((domain) => storageDomainOf(domain, links, dataCenter.id)),
      },
    }
  }
  const check = (id: string): void => {
    found('data center', id === dataCenter.id || undefined)
  }

  app.route({
    method: 'GET',
    url: '/datacenters',
    schema: {
      summary: 'The data center; `search=storage.name=NAME` finds it by its storage domains',
      querystring,
      response: answers({ 200: listOf('data_centers', 'data_center', DataCenterSchema) }, 400),
    },
    handler: async (request) => {
      const parameters = parametersOf(request)
      const fields = dataCenterFields(await service.storageDomains())
      const centers = searched([dataCenter], fields, parameters)
      const data_center = await Promise.all(centers.map(() => oneDataCenter(parameters['follow'])))
      return new Representation('data_centers', { data_center })
    },
  })
  app.route({
    method: 'GET',
    url: '/datacenters/:id',
    schema: {
      summary: 'One data center',
      params: IdParams,
      querystring: Type.Object({ follow: SEARCH_PARAMETERS.follow }),
      response: answers({ 200: DataCenterSchema }, 404),
    },
    handler: async (request) => {
      check(request.params.id)
      return new Representation('data_center', await oneDataCenter(parametersOf(request)['follow']))
    },
  })
  app.route({
    method: 'GET',
    url: '/datacenters/:id/storagedomains',
    schema: {
      summary: 'The storage domains of a data center',
      params: IdParams,
      querystring,
      response: answers(
        { 200: listOf('storage_domains', 'storage_domain', StorageDomainSchema) },
        404,
      ),
    },
    handler: async (request) => {
      check(request.params.id)
      const all = await service.storageDomains()
      const domains = searched(all, STORAGE_DOMAIN_FIELDS, parametersOf(request))
      return new Representation('storage_domains', {
        storage_domain: domains.map((domain) => storageDomainOf(domain, links, dataCenter.id)),
      })
    },
  })
  for (const url of ['/clusters', '/datacenters/:id/clusters']) {
    app.route({
      method: 'GET',
      url,
      schema: {
        summary: 'The cluster',
        querystring,
        response: answers({ 200: listOf('clusters', 'cluster', ClusterSchema) }, 400),
      },
      handler: async (request) => {
        const { id } = request.params as { readonly id?: string }
        if (id !== undefined) check(id)
        const clusters = searched([cluster], CLUSTER_FIELDS, parametersOf(request))
        return new Representation('clusters', { cluster: clusters.map(oneCluster) })
      },
    })
  }
  app.route({
    method: 'GET',
    url: '/clusters/:id',
    schema: {
      summary: 'One cluster',
      params: IdParams,
      response: answers({ 200: ClusterSchema }, 404),
    },
    handler: async ({ params }) => {
      found('cluster', params.id === cluster.id || undefined)
      return new Representation('cluster', oneCluster())
    },
  })
}
