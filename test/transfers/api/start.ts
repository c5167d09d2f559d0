/** An API over a fake service, listening on a port of its own. */
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { pino } from 'pino'
import { createApi, type ApiOptions } from '../../../transfers/api/api.js'
import type { Users } from '../../../transfers/password-file.js'
import { request, type Ask, type Reply } from '../../support/http.js'
import { testPki } from '../../support/pki.js'
import { FakeService } from './fake-service.js'

export const A = '/ovirt-engine/api'
export const USER = 'admin@internal'
export const PASSWORD = 'secret'
export const BASIC = `Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}`

/** One user whose password costs nothing to check; the real thing has its own test. */
export class OneUser implements Users {
  checks = 0
  password = PASSWORD
  async verify(user: string, password: string): Promise<boolean> {
    this.checks++
    return user === USER && password === this.password
  }
  async credential(user: string): Promise<string | undefined> {
    return user === USER ? this.password : undefined
  }
  async version(): Promise<string> {
    return this.password
  }
}

export interface Started {
  readonly service: FakeService
  readonly users: OneUser
  readonly target: { readonly host: string; readonly port: number }
  readonly server: object
  /** A picture of all routes. */
  readonly routes: () => string
  /** With name and password. */
  readonly ask: (method: string, path: string, ask?: Ask) => Promise<Reply>
  readonly close: () => Promise<void>
}

export async function start(t: Test, options: Partial<ApiOptions> = {}): Promise<Started> {
  const service = new FakeService()
  const users = new OneUser()
  const logger = pino({ level: 'silent' })
  const app = await createApi({ service, users, logger, ...options })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const target = { host: '127.0.0.1', port }
  const close = async (): Promise<void> => {
    await app.close()
  }
  t.teardown(close)
  const secure = options.tls === undefined ? target : { ...target, ca: testPki().ca }
  const ask: Started['ask'] = (method, path, { headers = {}, ...rest } = {}) =>
    request(secure, method, path.startsWith('/ovirt') ? path : A + path, {
      ...rest,
      headers: { authorization: BASIC, ...headers },
    })
  const routes = (): string => app.printRoutes({ commonPrefix: false })
  return { service, users, target, server: app.server, routes, ask, close }
}
