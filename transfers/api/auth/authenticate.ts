/** Who sent a request of the API: by token, by name and password, or by a session's cookie. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { API } from '../links.js'
import { UnauthorizedError } from './errors.js'
import type { Logins } from './logins.js'
import type { Sessions } from './sessions.js'

export interface Credentials {
  readonly user: string
  readonly password: string
}

export class Authenticator {
  readonly sessions: Sessions
  readonly logins: Logins
  readonly #isTls: boolean

  constructor(sessions: Sessions, logins: Logins, isTls: boolean) {
    this.sessions = sessions
    this.logins = logins
    this.#isTls = isTls
  }

  /** The user's name. Throws UnauthorizedError, whatever is wrong: clients log in again on 401 only. */
  async authenticate(request: FastifyRequest, reply: FastifyReply): Promise<string> {
    const { authorization } = request.headers
    const token = bearerToken(authorization)
    const byToken = token === undefined ? undefined : this.sessions.user(token)
    if (byToken !== undefined) return byToken
    const byCookie = this.#byCookie(request)
    const basic = basicCredentials(authorization)
    if (basic === undefined) {
      if (byCookie !== undefined && authorization === undefined) return byCookie
      throw new UnauthorizedError()
    }
    if (!(await this.logins.isRight(basic.user, basic.password, request.ip))) {
      request.log.warn({ client: request.ip, user: basic.user.slice(0, 64) }, 'login refused')
      throw new UnauthorizedError()
    }
    if (wantsSession(request) && byCookie !== basic.user) this.#openSession(request, reply, basic)
    return basic.user
  }

  /** A cookie without the wish to keep the session ends it. */
  #byCookie(request: FastifyRequest): string | undefined {
    const id = /(?:^|;\s*)JSESSIONID=([\w-]+)/.exec(request.headers.cookie ?? '')?.[1]
    if (id === undefined) return undefined
    if (wantsSession(request)) return this.sessions.user(id)
    this.sessions.close(id)
    return undefined
  }

  #openSession({ headers }: FastifyRequest, reply: FastifyReply, { user }: Credentials): void {
    const minutes = Number(headers['session-ttl'])
    const id = this.sessions.open(user, minutes > 0 ? minutes * 60_000 : undefined)
    const secure = this.#isTls ? '; Secure' : ''
    void reply.header('set-cookie', `JSESSIONID=${id}; Path=${API}${secure}; HttpOnly`)
  }
}

function wantsSession({ headers }: FastifyRequest): boolean {
  const { prefer = '' } = headers
  return String(prefer)
    .split(',')
    .some((wish) => wish.trim().toLowerCase() === 'persistent-auth')
}

function bearerToken(authorization: string | undefined): string | undefined {
  return /^Bearer +([\w.~+/=-]+) *$/i.exec(authorization ?? '')?.[1]
}

export function basicCredentials(authorization: string | undefined): Credentials | undefined {
  const [, encoded] = /^Basic +([\w+/=-]+) *$/i.exec(authorization ?? '') ?? []
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString()
  const colon = text.indexOf(':')
  return colon < 0 ? undefined : { user: text.slice(0, colon), password: text.slice(colon + 1) }
}
