/** Who sent a request of the API: by token, by name and password, or by a session's cookie. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { API } from '../links.js'
import { UnauthorizedError } from './errors.js'
import type { Logins } from './logins.js'
import type { Login, Sessions } from './sessions.js'

export interface Credentials {
  readonly user: string
  readonly password: string
}

export class Authenticator {
  readonly #sessions: Sessions
  readonly #logins: Logins
  readonly #isTls: boolean

  constructor(sessions: Sessions, logins: Logins, isTls: boolean) {
    this.#sessions = sessions
    this.#logins = logins
    this.#isTls = isTls
  }

  /** The user's name. Throws UnauthorizedError, whatever is wrong: clients log in again on 401 only. */
  async authenticate(request: FastifyRequest, reply: FastifyReply): Promise<string> {
    const { authorization } = request.headers
    const token = bearerToken(authorization)
    const byToken = token === undefined ? undefined : await this.#userOf(token)
    if (byToken !== undefined) return byToken
    const byCookie = await this.#byCookie(request)
    const basic = basicCredentials(authorization)
    if (basic === undefined) {
      if (byCookie !== undefined && authorization === undefined) return byCookie
      throw new UnauthorizedError()
    }
    const login = await this.login(basic, request)
    if (login === undefined) throw new UnauthorizedError()
    if (wantsSession(request) && byCookie !== basic.user) this.#openSession(request, reply, login)
    return basic.user
  }

  /** Undefined, and logged, for a wrong name or password. */
  async login(
    { user, password }: Credentials,
    { ip, log }: FastifyRequest,
  ): Promise<Login | undefined> {
    // Before it is checked: one that is changed meanwhile opens nothing.
    const credential = await this.#logins.credential(user)
    if (await this.#logins.isRight(user, password, ip)) return { user, credential }
    log.warn({ client: ip, user: user.slice(0, 64) }, 'login refused')
    return undefined
  }

  /** A new token. */
  open(login: Login): string {
    return this.#sessions.open(login)
  }

  close(token: string): void {
    this.#sessions.close(token)
  }

  /** A token ends with the password that it was given for. */
  async #userOf(token: string): Promise<string | undefined> {
    const login = this.#sessions.login(token)
    if (login === undefined) return undefined
    if ((await this.#logins.credential(login.user)) === login.credential) return login.user
    this.close(token)
    return undefined
  }

  /** A cookie without the wish to keep the session ends it. */
  async #byCookie(request: FastifyRequest): Promise<string | undefined> {
    const id = /(?:^|;\s*)JSESSIONID=([\w-]+)/.exec(request.headers.cookie ?? '')?.[1]
    if (id === undefined) return undefined
    if (wantsSession(request)) return this.#userOf(id)
    this.close(id)
    return undefined
  }

  #openSession({ headers }: FastifyRequest, reply: FastifyReply, login: Login): void {
    const minutes = Number(headers['session-ttl'])
    const id = this.#sessions.open(login, minutes > 0 ? minutes * 60_000 : undefined)
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
