import { Type } from 'typebox'
import {
  answers,
  found,
  IdParams,
  listOf,
  LIST_PARAMETERS,
  parametersOf,
  SEARCH_PARAMETERS,
} from '../context.js'
import type { Context } from '../context.js'
import {
  diskFields,
  diskOf,
  DiskSchema,
  diskSnapshotOf,
  DiskSnapshotSchema,
} from '../entities/disk.js'
import {
  STORAGE_DOMAIN_FIELDS,
  storageDomainOf,
  StorageDomainSchema,
} from '../entities/storage-domain.js'
import { searched } from '../search/match.js'
import { Id } from '../schemas.js'
import { Representation } from '../wire.js'
import type { Disk, StorageDomain } from '../../model.js'

export function storageDomainRoutes({ app, settings, links }: Context): void {
  const { service, inventory } = settings
  const dataCenterId = inventory.dataCenter.id

  const domain = async (wanted: string): Promise<StorageDomain> => {
    const domains = await service.storageDomains()
    return found(
      'storage domain',
      domains.find(({ id }) => id === wanted),
    )
  }
  const disksOf = async (wanted: string): Promise<Disk[]> => {
    const { id } = await domain(wanted)
    return (await service.disks()).filter(({ storageDomainId }) => storageDomainId === id)
  }

  app.route({
    method: 'GET',
    url: '/storagedomains',
    schema: {
      summary: 'Storage domains, each a directory',
      querystring: Type.Object(SEARCH_PARAMETERS),
      response: answers(
        { 200: listOf('storage_domains', 'storage_domain', StorageDomainSchema) },
        400,
      ),
    },
    handler: async (request) => {
      const all = await service.storageDomains()
      const domains = searched(all, STORAGE_DOMAIN_FIELDS, parametersOf(request))
      return new Representation('storage_domains', {
        storage_domain: domains.map((domain) => storageDomainOf(domain, links, dataCenterId)),
      })
    },
  })
  app.route({
    method: 'GET',
    url: '/storagedomains/:id',
    schema: {
      summary: 'One storage domain',
      params: IdParams,
      response: answers({ 200: StorageDomainSchema }, 404),
    },
    handler: async ({ params }) =>
      new Representation(
        'storage_domain',
        storageDomainOf(await domain(params.id), links, dataCenterId),
      ),
  })
  app.route({
    method: 'GET',
    url: '/storagedomains/:id/disks',
    schema: {
      summary: 'The disks of a storage domain',
      params: IdParams,
      querystring: Type.Object(SEARCH_PARAMETERS),
      response: answers({ 200: listOf('disks', 'disk', DiskSchema) }, 400, 404),
    },
    handler: async (request) => {
      const all = await disksOf(request.params.id)
      const fields = diskFields(await service.storageDomains())
      const disks = searched(all, fields, parametersOf(request))
      return new Representation('disks', { disk: disks.map((disk) => diskOf(disk, links)) })
    },
  })
  app.route({
    method: 'GET',
    url: '/storagedomains/:id/disksnapshots',
    schema: {
      summary: 'One snapshot of each disk of a storage domain: the disk as it is',
      params: IdParams,
      querystring: Type.Object(LIST_PARAMETERS),
      response: answers(
        { 200: listOf('disk_snapshots', 'disk_snapshot', DiskSnapshotSchema) },
        404,
      ),
    },
    handler: async (request) => {
      const disks = searched(
        await disksOf(request.params.id),
        {},
        {
          max: parametersOf(request)['max'] ?? '',
        },
      )
      return new Representation('disk_snapshots', {
        disk_snapshot: disks.map((disk) => diskSnapshotOf(disk, links)),
      })
    },
  })
  app.route({
    method: 'GET',
    url: '/storagedomains/:id/disksnapshots/:snapshotId',
    schema: {
      summary: 'One snapshot, by the id of its image',
      params: Type.Object({ id: Id, snapshotId: Id }),
      response: answers({ 200: DiskSnapshotSchema }, 404),
    },
    handler: async ({ params }) => {
      const disks = await disksOf(params.id)
      const disk = found(
        'disk snapshot',
        disks.find(({ imageId }) => imageId === params.snapshotId),
      )
      return new Representation('disk_snapshot', diskSnapshotOf(disk, links))
    },
  })
}
