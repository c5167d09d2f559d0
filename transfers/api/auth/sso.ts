/**
 * Tokens for the SDK: the exchange of an engine's single sign-on (transfer-api.md, 2.2 and 2.3), whose
 * errors are JSON and no faults. The Authorization header that libcurl adds to these requests is ignored.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { IncomingMessage } from 'node:http'
import { readBody } from '../body.js'
import { HTTP_TOKEN, LOGOUT, SsoError, TOKEN, type FormSchema } from './sso-schemas.js'
import { parseParameters, type Parameters } from '../parameters.js'
import { FaultError } from '../../fault.js'
import { basicCredentials, type Authenticator, type Credentials } from './authenticate.js'

const SSO = '/ovirt-engine/sso/oauth'
const SERVICES = '/ovirt-engine/services'

const HTTP_GRANT = 'urn:ovirt:params:oauth:grant-type:http'

export function ssoRoutes(app: FastifyInstance, authenticator: Authenticator): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', async (_request: FastifyRequest, payload: IncomingMessage) =>
    parseParameters((await readBody(payload)).toString()),
  )
  app.setErrorHandler((error, _request, reply) => {
    const isKnown = error instanceof FaultError
    if (isKnown && 'headers' in error) void reply.headers(error.headers as Record<string, string>)
    const text = isKnown ? error.message : 'Unexpected; the log of the server knows more'
    const code = isKnown ? codeOf(error) : 'server_error'
    if (!isKnown) app.log.error({ err: error }, 'request failed')
    return refuse(reply, code, text, isKnown ? error.statusCode : 500)
  })
  // Forms are strings, in whatever combination: what is wrong with them is said in SSO's own way.
  app.setValidatorCompiler(() => () => true)
  const serve = (url: string, schema: FormSchema, handler: RouteHandlerMethod): void => {
    const { body, querystring, ...common } = schema
    app.route({ method: 'GET', url, schema: { ...common, querystring }, handler })
    const response = { ...common.response, 413: SsoError }
    app.route({ method: 'POST', url, schema: { ...common, body, response }, handler })
  }
  serve(`${SSO}/token`, TOKEN, async (request, reply) => {
    const form = formOf(request)
    const grant = form['grant_type']
    if (grant === undefined) return refuse(reply, 'invalid_request', 'grant_type is missing')
    if (grant !== 'password') return refuse(reply, 'unsupported_grant_type', 'Use password')
    const { username: user, password } = form
    if (user === undefined || password === undefined) {
      return refuse(reply, 'invalid_request', 'username and password are required')
    }
    return grantToken(authenticator, request, reply, { user, password })
  })
  serve(`${SSO}/token-http-auth`, HTTP_TOKEN, async (request, reply) => {
    const grant = formOf(request)['grant_type']
    if (grant !== HTTP_GRANT) return refuse(reply, 'unsupported_grant_type', `Use ${HTTP_GRANT}`)
    const basic = basicCredentials(request.headers.authorization)
    if (basic !== undefined) return grantToken(authenticator, request, reply, basic)
    void reply.header('www-authenticate', 'Basic realm="RESTAPI"')
    return refuse(reply, 'access_denied', 'User name and password are required', 401)
  })
  for (const url of [`${SERVICES}/sso-logout`, `${SSO}/revoke`]) {
    serve(url, LOGOUT, async (request, reply) => {
      authenticator.close(formOf(request)['token'] ?? '')
      return answer(reply, 200, {})
    })
  }
}

async function grantToken(
  authenticator: Authenticator,
  request: FastifyRequest,
  reply: FastifyReply,
  credentials: Credentials,
): Promise<FastifyReply> {
  const login = await authenticator.login(credentials, request)
  if (login === undefined) {
    const name = credentials.user.slice(0, 64)
    const text = `Cannot authenticate user '${name}': wrong user name or password.`
    return refuse(reply, 'access_denied', text)
  }
  return answer(reply, 200, {
    access_token: authenticator.open(login),
    scope: formOf(request)['scope'] ?? 'ovirt-app-api',
    // The end of time, as an engine says it: a token ends when it is idle, which nobody can know.
    exp: '9223372036854775807',
    token_type: 'bearer',
  })
}

/** Too many failures, or a request that is none. */
function codeOf({ statusCode }: FaultError): string {
  return statusCode === 429 ? 'access_denied' : 'invalid_request'
}

/** The SDK takes its form from the body, others from the query. */
function formOf({ body, query }: FastifyRequest): Parameters {
  return { ...(query as Parameters), ...(body as Parameters | undefined) }
}

function refuse(reply: FastifyReply, code: string, text: string, status = 400): FastifyReply {
  return answer(reply, status, { error_code: code, error: text })
}

/** Tokens are not to be kept by anything on the way. */
function answer(reply: FastifyReply, status: number, value: object): FastifyReply {
  return reply
    .code(status)
    .headers({ 'content-type': 'application/json', 'cache-control': 'no-store' })
    .serializer(JSON.stringify)
    .send(value)
}
