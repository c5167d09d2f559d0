import { Type } from 'typebox'
import { FaultError } from '../../fault.js'
import { answers, found, IdParams, listOf, parametersOf, SEARCH_PARAMETERS } from '../context.js'
import type { Context } from '../context.js'
import {
  DISK_ACTIONS,
  DISK_COLLECTIONS,
  diskFields,
  diskOf,
  DiskSchema,
  diskSnapshotOf,
  DiskSnapshotSchema,
} from '../entities/disk.js'
import { followDisk } from '../follow.js'
import { followOf } from '../parameters.js'
import { Action, DONE } from '../schemas.js'
import { searched } from '../search/match.js'
import { Representation } from '../wire.js'
import { diskChangeOf, DiskChangeSchema } from './disk-change.js'
import { newDiskOf, NewDiskSchema } from './new-disk.js'

export function diskRoutes(context: Context): void {
  const { app, settings, links } = context
  const { service } = settings
  app.route({
    method: 'GET',
    url: '/disks',
    schema: {
      summary: 'Disks',
      querystring: Type.Object(SEARCH_PARAMETERS),
      response: answers({ 200: listOf('disks', 'disk', DiskSchema) }, 400),
    },
    handler: async (request) => {
      const parameters = parametersOf(request)
      const domains = await service.storageDomains()
      const disks = searched(await service.disks(), diskFields(domains), parameters)
      const show = followDisk(context, domains, followOf(parameters['follow']))
      return new Representation('disks', { disk: disks.map(show) })
    },
  })
  app.route({
    method: 'POST',
    url: '/disks',
    schema: {
      summary: 'Makes a disk',
      description:
        'Answers at once with a disk that is `locked`; poll it until it is `ok`. With ' +
        '`Expect: 201-created` the answer waits for that.',
      body: NewDiskSchema,
      response: answers({ 201: DiskSchema, 202: DiskSchema }, 400, 404, 409),
    },
    handler: async (request, reply) => {
      const { disk, ready } = await service.addDisk(newDiskOf(request.body))
      void reply.header('location', links.to('disks', disk.id))
      if (!/^201-created$/i.test(request.headers.expect ?? '')) {
        ready.catch((error: unknown) => request.log.error({ err: error }, 'making a disk failed'))
        void reply.code(202)
        return new Representation('disk', { ...diskOf(disk, links), creation_status: 'pending' })
      }
      await ready
      const made = found('disk, as making it failed', await service.disk(disk.id))
      void reply.code(201)
      return new Representation('disk', diskOf(made, links))
    },
  })
  app.route({
    method: 'GET',
    url: '/disks/:id',
    schema: {
      summary: 'One disk',
      params: IdParams,
      querystring: Type.Object({ follow: SEARCH_PARAMETERS.follow }),
      response: answers({ 200: DiskSchema }, 404),
    },
    handler: async (request) => {
      const disk = found('disk', await service.disk(request.params.id))
      const follow = followOf(parametersOf(request)['follow'])
      const domains = follow.has('storage_domains') ? await service.storageDomains() : []
      return new Representation('disk', followDisk(context, domains, follow)(disk))
    },
  })
  app.route({
    method: 'PUT',
    url: '/disks/:id',
    schema: {
      summary: 'Changes a disk',
      description:
        'Not while it is `locked`. Members that are not there stay as they are. Answers when a disk ' +
        'that grows has its size; what is new of it reads as zeroes. Of what is refused or fails, ' +
        'nothing is changed.',
      params: IdParams,
      body: DiskChangeSchema,
      response: answers({ 200: DiskSchema }, 400, 404, 409),
    },
    handler: async ({ params, body }) => {
      const disk = found('disk', await service.disk(params.id))
      const changed = await service.changeDisk(params.id, diskChangeOf(body, disk))
      return new Representation('disk', diskOf(changed, links))
    },
  })
  app.route({
    method: 'DELETE',
    url: '/disks/:id',
    schema: {
      summary: 'Removes a disk and its data',
      description: 'Not while it is `locked`.',
      params: IdParams,
      response: answers({ 200: Action }, 404, 409),
    },
    handler: async ({ params }) => {
      await service.removeDisk(params.id)
      return new Representation('action', DONE)
    },
  })
  app.route({
    method: 'GET',
    url: '/disks/:id/disksnapshots',
    schema: {
      summary: 'The one snapshot of a disk: the disk as it is',
      params: IdParams,
      response: answers(
        { 200: listOf('disk_snapshots', 'disk_snapshot', DiskSnapshotSchema) },
        404,
      ),
    },
    handler: async ({ params }) => {
      const disk = found('disk', await service.disk(params.id))
      return new Representation('disk_snapshots', { disk_snapshot: [diskSnapshotOf(disk, links)] })
    },
  })
  for (const action of DISK_ACTIONS) {
    app.route({
      method: 'POST',
      url: `/disks/:id/${action}`,
      schema: {
        summary: 'Is refused: for clients that look for it',
        params: IdParams,
        response: answers({ 200: Action }, 400, 404),
      },
      handler: async ({ params }) => {
        found('disk', await service.disk(params.id))
        const detail = `Disks cannot ${action} here; download the disk, and upload it to another`
        throw new FaultError(400, 'Operation Failed', detail)
      },
    })
  }
  for (const collection of DISK_COLLECTIONS) {
    const member = collection.slice(0, -1)
    const none = Type.Object({ id: Type.String() }, { xml: { name: member } })
    app.route({
      method: 'GET',
      url: `/disks/:id/${collection}`,
      schema: {
        summary: 'None: for clients that follow the link',
        params: IdParams,
        response: answers({ 200: listOf(collection, member, none) }, 404),
      },
      handler: async ({ params }) => {
        found('disk', await service.disk(params.id))
        return new Representation(collection, { [member]: [] })
      },
    })
  }
}
