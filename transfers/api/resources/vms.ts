/** As much of virtual machines and jobs as virt-v2v needs (transfer-api.md, 5.4). */
import { Type } from 'typebox'
import { answers, listOf, parametersOf, SEARCH_PARAMETERS, type Context } from '../context.js'
import { DomainUnavailableError, FaultError } from '../../fault.js'
import { Href, Id, OptionalName } from '../schemas.js'
import { searched, type Fields } from '../search/match.js'
import type { Job, Vm } from '../vm-store.js'
import { date, Representation, type WireObject } from '../wire.js'
import type { Links } from '../links.js'

const VmSchema = Type.Object(
  { href: Href, id: Id, name: Type.String(), status: Type.Literal('down') },
  { xml: { name: 'vm' } },
)

const JobSchema = Type.Object(
  {
    href: Href,
    id: Id,
    description: Type.String(),
    status: Type.Literal('finished'),
    start_time: Type.String(),
  },
  { xml: { name: 'job' } },
)

const NewVmSchema = Type.Object(
  {
    name: OptionalName('Default: what the OVF says'),
    initialization: Type.Object({
      configuration: Type.Object({
        type: Type.Enum(['ova', 'ovf']),
        data: Type.String({ description: 'The OVF, escaped' }),
      }),
    }),
  },
  { xml: { name: 'vm' } },
)

const VM_FIELDS: Fields<Vm> = {
  id: ({ id }) => id,
  name: ({ name }) => name,
  status: () => 'down',
}

const JOB_FIELDS: Fields<Job> = {
  id: ({ id }) => id,
  name: ({ description }) => description,
  description: ({ description }) => description,
  status: () => 'finished',
  correlation_id: ({ correlationId }) => correlationId,
}

export function vmRoutes({ app, links, vms, settings }: Context): void {
  const querystring = Type.Object(SEARCH_PARAMETERS)
  app.route({
    method: 'GET',
    url: '/vms',
    schema: {
      summary: 'Virtual machines whose definition was stored',
      querystring,
      response: answers({ 200: listOf('vms', 'vm', VmSchema) }, 400),
    },
    handler: async (request) => {
      const list = searched(await vms.vms(), VM_FIELDS, parametersOf(request))
      return new Representation('vms', { vm: list.map((vm) => vmOf(vm, links)) })
    },
  })
  app.route({
    method: 'POST',
    url: '/vms',
    schema: {
      summary: 'Stores the definition of a virtual machine',
      description: 'It is not run here: the OVF is kept in a file, for whoever runs it.',
      body: NewVmSchema,
      querystring: Type.Object({
        correlation_id: Type.Optional(Type.String({ description: 'By which the job is found' })),
      }),
      response: answers({ 201: VmSchema }, 400, 409),
    },
    handler: async (request, reply) => {
      const { name, initialization } = request.body
      const correlationId = parametersOf(request)['correlation_id'] ?? ''
      if (correlationId.length > 255) {
        throw new FaultError(400, 'Invalid value', 'correlation_id is too long; use a UUID')
      }
      // Where they are kept; a directory that is not mounted is none.
      const [place] = await settings.service.storageDomains()
      if (place?.problem !== undefined) throw new DomainUnavailableError(place.problem)
      const vm = await vms.add(initialization.configuration.data, name, correlationId)
      void reply.code(201).header('location', links.to('vms', vm.id))
      return new Representation('vm', vmOf(vm, links))
    },
  })
  app.route({
    method: 'GET',
    url: '/jobs',
    schema: {
      summary: 'Jobs of recent requests; all are finished',
      querystring,
      response: answers({ 200: listOf('jobs', 'job', JobSchema) }, 400),
    },
    handler: async (request) => {
      const jobs = searched(vms.jobs(), JOB_FIELDS, parametersOf(request))
      return new Representation('jobs', { job: jobs.map((job) => jobOf(job, links)) })
    },
  })
}

function vmOf({ id, name }: Vm, links: Links): WireObject {
  return { ...links.reference('vms', id), name, status: 'down' }
}

function jobOf({ id, description, startedAt }: Job, links: Links): WireObject {
  return {
    ...links.reference('jobs', id),
    description,
    status: 'finished',
    start_time: date(startedAt),
  }
}
