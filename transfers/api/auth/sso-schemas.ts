/** What the documentation says of single sign-on. Its requests are not checked by it. */
import { Type, type TSchema } from 'typebox'
import { withRetryAfter } from '../common-answers.js'

const Token = Type.Object(
  {
    access_token: Type.String({ description: 'A secret, for `Authorization: Bearer`' }),
    scope: Type.String(),
    exp: Type.String({
      description: 'Milliseconds; a token ends when it is unused for 30 minutes',
    }),
    token_type: Type.Literal('bearer'),
  },
  { xml: { name: 'token' } },
)

export const SsoError = Type.Object(
  {
    error_code: Type.Enum([
      'access_denied',
      'invalid_request',
      'server_error',
      'unsupported_grant_type',
    ]),
    error: Type.String({ description: 'What is wrong' }),
  },
  { xml: { name: 'sso_error' } },
)

const string = (description: string): TSchema => Type.String({ description })
const scope = Type.Optional(string('`ovirt-app-api`'))

/** The query may have what the body has. */
function form(summary: string, members: Record<string, TSchema>, answer: TSchema) {
  const optional = Object.entries(members).map(([name, member]) => [name, Type.Optional(member)])
  return {
    summary,
    description: 'A form in the body, or the same in the query. Needs no login.',
    security: [] as Record<string, string[]>[],
    consumes: ['application/x-www-form-urlencoded'],
    produces: ['application/json'],
    querystring: Type.Object(Object.fromEntries(optional) as Record<string, TSchema>),
    body: Type.Object(members, { xml: { name: 'form' } }),
    response: { 200: answer, 400: SsoError, 429: withRetryAfter(SsoError) },
  }
}

export const TOKEN = form(
  'A token for a name and a password',
  {
    grant_type: string('`password`'),
    scope,
    username: string('`admin@internal`, as in the password file'),
    password: string('Its password'),
  },
  Token,
)

const http = form(
  'A token for name and password in `Authorization: Basic`',
  { grant_type: string('`urn:ovirt:params:oauth:grant-type:http`'), scope },
  Token,
)
export const HTTP_TOKEN = {
  ...http,
  description: 'A form in the body, or the same in the query.',
  security: [{ basic: [] }],
  response: { ...http.response, 401: SsoError },
}

export const LOGOUT = form(
  'Ends a token',
  { token: string('Also one that is not known') },
  Type.Object({}),
)

export type FormSchema = ReturnType<typeof form>
