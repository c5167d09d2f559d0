/** The OpenAPI document, from the schemas that requests are checked with. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { Type } from 'typebox'
import { VERSION } from '../../core/http/version.js'
import { commonAnswers, MEDIA } from './common-answers.js'
import { API, API_V4 } from './links.js'

export const OPENAPI_PATH = `${API}/openapi.json`

export const OPENAPI_SCHEMA = {
  summary: 'This page for programs (OpenAPI 3.1)',
  description: 'Needs no login.',
  security: [],
  response: {
    200: { description: 'OpenAPI', content: { 'application/json': { schema: Type.Object({}) } } },
  },
}

export const openapiOptions: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'imageio transfer service',
      description:
        'Transfers of disks, as oVirt’s clients ask for them. Every object is XML or JSON; in JSON ' +
        'all scalars are strings, in XML `id`, `href` and `rel` are attributes.',
      version: VERSION,
    },
    servers: [{ url: '/', description: 'Where this document was found' }],
    components: {
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'A token of /ovirt-engine/sso/oauth/token',
        },
        basic: { type: 'http', scheme: 'basic', description: 'Name and password' },
        session: {
          type: 'apiKey',
          in: 'cookie',
          name: 'JSESSIONID',
          description:
            'Set by an answer to `basic` with `Prefer: persistent-auth`, and sent with it',
        },
      },
    },
    security: [{ bearer: [] }, { basic: [] }, { session: [] }],
  },
  // The tree is there twice; once is enough to read.
  transform: ({ schema, url, route }) => {
    const isHidden = url === API_V4 || url.startsWith(`${API_V4}/`) || route.method === 'HEAD'
    const isOpen = schema.security !== undefined
    const isStream = route.config?.isStream === true
    const common = commonAnswers(String(route.method), { isOpen, isStream })
    return {
      schema: {
        ...{ consumes: MEDIA, produces: MEDIA },
        ...schema,
        response: { ...(schema.response as object | undefined), ...common },
        ...(isHidden ? { hide: true } : {}),
      },
      url,
    }
  },
}
