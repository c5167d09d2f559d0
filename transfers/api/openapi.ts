/** The OpenAPI document, from the schemas that requests are checked with. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { VERSION } from '../../core/http/version.js'
import { API, API_V4 } from './links.js'

export const OPENAPI_PATH = `${API}/openapi.json`

const MEDIA = ['application/xml', 'application/json']

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
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer' },
        password: { type: 'http', scheme: 'basic' },
      },
    },
    security: [{ token: [] }, { password: [] }],
  },
  // The tree is there twice; once is enough to read.
  transform: ({ schema, url, route }) => {
    const isStream = route.config?.isStream === true
    const isHidden = url === API_V4 || url.startsWith(`${API_V4}/`) || route.method === 'HEAD'
    const produces = isStream ? ['text/event-stream'] : MEDIA
    return {
      schema: { ...schema, consumes: MEDIA, produces, ...(isHidden ? { hide: true } : {}) },
      url,
    }
  },
}
