/** The HTTP side of the transfer service: an engine's API, as far as image transfers need it. */
import swagger from '@fastify/swagger'
import { TypeBoxValidatorCompiler, type TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
} from 'fastify'
import { NO_COMPILERS } from '../../core/http/no-compilers.js'
import { maxHeaderSize } from '../../core/http/node-http.js'
import { FaultError } from '../fault.js'
import { Authenticator } from './auth/authenticate.js'
import { Failures } from './auth/failures.js'
import { Logins } from './auth/logins.js'
import { Sessions } from './auth/sessions.js'
import { ssoRoutes } from './auth/sso.js'
import { acceptBodies } from './body.js'
import { BusyError } from './busy.js'
import type { Context } from './context.js'
import { replyFault } from './faults.js'
import { API, API_V4, Links } from './links.js'
import { checkAcceptable, CONTENT_TYPES, mediaFor } from './media.js'
import { checkMethod, refuseOtherMethods } from './methods.js'
import { OPENAPI_PATH, OPENAPI_SCHEMA, openapiOptions } from './openapi.js'
import { withDefaults, type ApiOptions } from './options.js'
import { parseParameters } from './parameters.js'
import { pkiRoute } from './pki.js'
import { dataCenterRoutes } from './resources/data-centers.js'
import { diskRoutes } from './resources/disks.js'
import { eventRoutes } from './resources/events.js'
import { checkHost } from './host-header.js'
import { hostRoutes } from './resources/hosts.js'
import { rootRoutes } from './resources/root.js'
import { storageDomainRoutes } from './resources/storage-domains.js'
import { transferRoutes } from './resources/transfers.js'
import { vmRoutes } from './resources/vms.js'
import { checkOrigin } from './same-origin.js'
import { ID_PATTERN, notAnId } from './schemas.js'
import { answerMalformed } from './malformed.js'
import { createServer } from './server.js'
import { Streams } from './streams.js'
import { canonicalTarget, UNDECODABLE } from './target.js'
import { checkVersion } from './versions.js'
import { VmStore } from './vm-store.js'
import { Representation } from './wire.js'
import { writeXml } from './xml/writer.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sent it; empty outside of the API proper. */
    user: string
  }
  interface FastifyContextConfig {
    /** The answer is neither XML nor JSON. */
    isStream?: boolean
  }
}

/** Ready to listen. */
export async function createApi(options: ApiOptions): Promise<FastifyInstance> {
  const settings = withDefaults(options)
  const { users, clock } = settings
  const now = (): number => clock.now()
  // fastify's own type, or all others depend on the logger's.
  const logger: FastifyBaseLogger = settings.logger
  const app = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent,
    serverFactory: (handler) => createServer(settings, handler),
    rewriteUrl: ({ url = '' }) => canonicalTarget(url),
    routerOptions: { maxParamLength: maxHeaderSize, querystringParser: parseParameters },
    clientErrorHandler: answerMalformed,
    schemaController: NO_COMPILERS,
    forceCloseConnections: 'idle',
    return503OnClosing: false, // in a form that no client of this API reads
  })
  const streams = new Streams(settings.streams)
  let isClosing = false
  app.addHook('preClose', async () => {
    isClosing = true
    streams.close()
  })
  app.decorateRequest('user', '')
  app.setErrorHandler((error, request, reply) => replyFault(error, request, reply, logger))
  app.setNotFoundHandler(notFound)
  app.addHook('onRequest', async ({ raw }, reply) => {
    checkHost(raw)
    if (!isClosing) return
    void reply.header('connection', 'close')
    throw new BusyError('The service is being stopped; ask again when it is back')
  })
  app.setValidatorCompiler(TypeBoxValidatorCompiler)
  app.setSerializerCompiler(() => (value) => JSON.stringify(value))
  represent(app)
  logRequests(app)
  acceptBodies(app)
  await app.register(swagger, openapiOptions)

  const logins = new Logins(users, new Failures(settings.failures, now), clock)
  app.addHook('preClose', async () => logins.close())
  const authenticator = new Authenticator(
    new Sessions(settings.sessions, now),
    logins,
    settings.tls !== undefined,
  )
  await app.register(async (open) => ssoRoutes(open, authenticator))
  pkiRoute(app, settings.ca)
  app.get(OPENAPI_PATH, { schema: OPENAPI_SCHEMA }, async (_request, reply) =>
    reply.header('content-type', 'application/json').send(JSON.stringify(app.swagger())),
  )
  const vms = new VmStore(settings.vmDirectory, now)
  for (const base of [API, API_V4]) {
    await app.register(
      async (scope) => {
        protect(scope, authenticator)
        const context: Context = {
          app: scope.withTypeProvider<TypeBoxTypeProvider>(),
          settings,
          links: new Links(base),
          streams,
          vms,
        }
        addResources(scope, context)
      },
      { prefix: base },
    )
  }
  await app.ready()
  return app
}

function addResources(scope: FastifyInstance, context: Context): void {
  const finish = refuseOtherMethods(scope)
  rootRoutes(context)
  dataCenterRoutes(context)
  storageDomainRoutes(context)
  hostRoutes(context)
  diskRoutes(context)
  transferRoutes(context)
  eventRoutes(context)
  vmRoutes(context)
  finish()
}

/** Before anything of a request is looked at: who sent it, and whether an answer can be understood. */
function protect(scope: FastifyInstance, authenticator: Authenticator): void {
  const id = new RegExp(ID_PATTERN)
  scope.setNotFoundHandler(notFound)
  scope.addHook('onRequest', async (request, reply) => {
    request.user = await authenticator.authenticate(request, reply)
    checkOrigin(request)
    checkVersion(request)
    if (request.routeOptions.config.isStream !== true) checkAcceptable(request.headers.accept)
    const ids = Object.values((request.params ?? {}) as Readonly<Record<string, string>>)
    if (!request.is404 && !ids.every((text) => id.test(text))) throw notAnId(ids)
  })
}

function notFound({ method, url }: FastifyRequest): never {
  if (url.endsWith(UNDECODABLE)) {
    throw new FaultError(
      400,
      'Invalid value',
      'The path is not UTF-8, or has a % without two digits',
    )
  }
  checkMethod(method)
  throw new FaultError(404, 'Not Found', `There is nothing at this path; ${API} has links to all`)
}

/** Paths hold ids and no secrets; a query may hold a password, for the token. */
function logRequests(app: FastifyInstance): void {
  app.addHook(
    'onResponse',
    async ({ method, originalUrl, user, log }, { statusCode, elapsedTime }) => {
      const path = originalUrl.replace(/[?;].*/s, '')
      log.debug({ method, path, user, status: statusCode, ms: Math.round(elapsedTime) }, 'request')
    },
  )
}

/** Objects become XML or JSON, whichever the client prefers; errors come even if it wants neither. */
function represent(app: FastifyInstance): void {
  app.addHook('preSerialization', async (request, reply, payload) => {
    if (!(payload instanceof Representation)) return payload
    const media = mediaFor(request.headers.accept) ?? 'xml'
    const { element, value } = payload
    void reply
      .header('content-type', CONTENT_TYPES[media])
      .serializer(() => (media === 'xml' ? writeXml(element, value) : JSON.stringify(value)))
    return payload
  })
}

export type { ApiOptions }
