/** The real server on a real socket, with a route table of the test's own. */
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { Admission } from '../../../core/http/admission.js'
import type { Handler, Route } from '../../../core/http/routes.js'
import { Transport } from '../../../native/transport.js'
import { HttpServer, type HttpServerOptions } from '../../../core/http/server.js'
import type { TlsMaterial } from '../../../core/http/tls.js'
import { testPki } from '../../support/pki.js'
import { Wire, type Target } from '../../support/wire.js'
import { recordingLogger, type LogLine } from './exchanges.js'

export interface Served {
  readonly server: HttpServer
  readonly target: Target
  readonly lines: LogLine[]
  /** A client connection, closed with the test. */
  readonly open: (options?: { isReading?: boolean; alpn?: string }) => Promise<Wire>
}

export interface ServeOptions extends Partial<HttpServerOptions> {
  readonly path?: string
  /** Whether the native front stands before it. */
  readonly isFronted?: boolean
}

/** As the daemon does; IMAGEIO_TEST_NATIVE=off runs the same tests without the native front. */
export const IS_FRONTED = process.env['IMAGEIO_TEST_NATIVE'] !== 'off'

export const LIMITS = { headerTimeout: 10, handshakeTimeout: 10, idleTimeout: 60, minBodyRate: 0 }

/** Answers with the id of its path. */
export const hello: Handler = (exchange) => exchange.send(200, `hello ${exchange.id}\n`)

export async function serve(
  t: Test,
  routes: readonly Route[] | Handler,
  { path, isFronted = IS_FRONTED, ...options }: ServeOptions = {},
): Promise<Served> {
  const { logger, lines } = recordingLogger()
  const table =
    typeof routes === 'function' ? [{ path: '/images/:id', methods: { GET: routes } }] : routes
  const transport = isFronted && !('mayConnect' in options) ? new Transport(2) : undefined
  t.teardown(() => transport?.close())
  const server = new HttpServer({
    ...(transport === undefined ? {} : { transport }),
    service: 'test',
    routes: table,
    requireHost: true,
    limits: LIMITS,
    admission: new Admission({ maxConnections: 1000, maxConnectionsPerAddress: 1000 }),
    logger,
    ...options,
  })
  await server.listen(path === undefined ? { host: '127.0.0.1', port: 0 } : { path })
  t.teardown(() => server.close(0))
  const target = targetOf(server, options.tls !== undefined)
  const open: Served['open'] = async (wireOptions) => {
    const wire = await Wire.open(target, wireOptions)
    t.teardown(() => wire.destroy())
    return wire
  }
  return { server, target, lines, open }
}

export function tlsMaterial(): TlsMaterial {
  const { keyFile, certFile } = testPki()
  return { key: readFileSync(keyFile), cert: readFileSync(certFile) }
}

/** A request without a body. */
export function ask(path: string, ...fields: string[]): string {
  return [`GET ${path} HTTP/1.1`, 'host: h', ...fields, '', ''].join('\r\n')
}

/** A handler that waits to be let go, and whether one waits. */
export function gate(): { handler: Handler; open: () => void; isWaiting: () => boolean } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  let waiting = 0
  return {
    handler: async (exchange) => {
      waiting++
      await promise
      waiting--
      exchange.send(200, `waited ${exchange.id}\n`)
    },
    open: () => resolve(undefined),
    isWaiting: () => waiting > 0,
  }
}

function targetOf(server: HttpServer, isTls: boolean): Target {
  const { address } = server
  if (typeof address === 'string') return { path: address }
  const { ca } = testPki()
  return { host: '127.0.0.1', port: address.port, ...(isTls ? { ca } : {}) }
}
