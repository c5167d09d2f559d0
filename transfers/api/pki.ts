/** The certificate of the authority, for who does not trust it yet (transfer-api.md, 2.4). */
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { FaultError } from '../fault.js'
import { parametersOf, text, textOf } from './context.js'
import { Fault } from './schemas.js'

export function pkiRoute(app: FastifyInstance, ca: Buffer | undefined): void {
  app.route({
    method: 'GET',
    url: '/ovirt-engine/services/pki-resource',
    schema: {
      summary: 'The certificate of the authority, for clients that are to trust it',
      description: 'Needs no login.',
      security: [],
      querystring: Type.Object({
        resource: text('`ca-certificate`'),
        format: text('`X509-PEM-CA`, which is meant without it'),
      }),
      response: {
        200: textOf('application/x-x509-ca-cert', 'PEM'),
        404: Fault,
      },
    },
    handler: async (request, reply) => {
      const { resource, format = 'X509-PEM-CA' } = parametersOf(request)
      if (ca === undefined || resource !== 'ca-certificate' || !format.startsWith('X509-PEM')) {
        throw new FaultError(
          404,
          'Not Found',
          'There is no such resource; ask for resource=ca-certificate&format=X509-PEM-CA. Without [tls] ca_file there is none',
        )
      }
      return reply.header('content-type', 'application/x-x509-ca-cert').send(ca)
    },
  })
}
