/** From a table of routes to fastify: what has a route, what answers 405, what answers 404. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { fastify, LogController } from 'fastify'
import type { Logger } from '../log.js'
import { MethodNotAllowedError, NoSuchPathError } from './errors.js'
import type { Exchange } from './exchange.js'
import { replyError } from './error-reply.js'
import { METHODS, type Method } from './methods.js'
import { NO_COMPILERS } from './no-compilers.js'
import { canonicalTarget } from './target.js'

export type Handler = (exchange: Exchange) => Promise<void> | void

/** One path and what its methods do. A path with `:id` takes any id, also an empty one. */
export interface Route {
  readonly path: string
  readonly methods: Readonly<Partial<Record<Method, Handler>>>
  /** Runs before the handler of any method, also before the one that refuses a method. */
  readonly prepare?: (exchange: Exchange) => void
}

/** Makes the exchange of a request that found its route. */
export type MakeExchange = (raw: { req: object; res: object }, parameter?: string) => Exchange

export interface Router {
  /** Serves one request; settles when its handler does. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void
  close(): Promise<void>
}

export async function createRouter(
  routes: readonly Route[],
  makeExchange: MakeExchange,
  logger: Logger,
): Promise<Router> {
  const app = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent) => parent, // an exchange has its own
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 16 * 1024, caseSensitive: true },
    schemaController: NO_COMPILERS,
    // Undecodable paths go where nothing is registered, with a byte no canonical path contains.
    rewriteUrl: (request) => canonicalTarget(request.url ?? '') ?? '/@undecodable',
  })
  // Bodies are read by handlers, from the raw request; fastify must neither read nor judge them.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  for (const { path, methods, prepare } of routes) {
    const allowed = METHODS.filter((method) => methods[method] !== undefined)
    for (const method of METHODS) {
      const handler = methods[method] ?? refuse(new MethodNotAllowedError(allowed))
      app.route<{ Params: { id?: string } }>({
        method,
        url: path,
        handler: (request, reply) => {
          reply.hijack()
          const exchange = makeExchange({ req: request.raw, res: reply.raw }, request.params.id)
          return run(exchange, handler, prepare)
        },
      })
    }
  }
  app.setNotFoundHandler((request, reply) => {
    reply.hijack()
    const exchange = makeExchange({ req: request.raw, res: reply.raw })
    return run(exchange, refuse(new NoSuchPathError()))
  })
  await app.ready()
  return {
    handle: (request, response) => app.routing(request, response),
    close: () => app.close(),
  }
}

function refuse(error: Error): Handler {
  return () => {
    throw error
  }
}

async function run(
  exchange: Exchange,
  handler: Handler,
  prepare?: (exchange: Exchange) => void,
): Promise<void> {
  try {
    prepare?.(exchange)
    await handler(exchange)
  } catch (error) {
    replyError(exchange, error)
  }
  logRequest(exchange)
}

function logRequest(exchange: Exchange): void {
  if (!exchange.isDebugged) return
  const { method, statusCode, startedAt, logger } = exchange
  if (!logger.isLevelEnabled('debug')) return
  logger.debug(
    { method, status: statusCode, ms: Math.round(performance.now() - startedAt) },
    'request',
  )
}
