/** The reference of the API as a page, from the OpenAPI document that the server gives. */

interface Schema {
  readonly type?: string
  readonly enum?: readonly string[]
  readonly const?: string
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly xml?: { readonly name?: string; readonly attribute?: boolean }
}

interface Parameter {
  readonly name: string
  readonly in: string
  readonly schema: Schema
  readonly description?: string
}

interface Content {
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>
}

interface Operation {
  readonly summary?: string
  readonly description?: string
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: Content
  readonly responses?: Readonly<Record<string, Content>>
}

interface Document {
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>
}

export const BEGIN = '<!-- From here on the page is made from the schemas: npm run docs. -->'

/** What follows the text written by hand. */
export function reference(document: object, base: string): string {
  const { paths = {} } = document as Document
  const sections: string[] = []
  const elements = new Map<string, Schema>()
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      sections.push(operationText(method, shortened(path, base), operation, elements))
    }
  }
  const tables = [...elements]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, schema]) => [`### ${name}`, table(schema)].join('\n\n'))
  return [BEGIN, '## Requests', ...sections, '## Answers', ...tables].join('\n\n') + '\n'
}

/** Below the base; what is elsewhere is told in full. */
function shortened(path: string, base: string): string {
  return path.startsWith(base) ? path.slice(base.length) || '/' : path
}

function operationText(
  method: string,
  path: string,
  { summary = '', description, parameters = [], requestBody, responses = {} }: Operation,
  elements: Map<string, Schema>,
): string {
  const parts = [`### ${method.toUpperCase()} ${path}`, `${summary}.`]
  if (description !== undefined) parts.push(description)
  const own = parameters.filter((parameter) => parameter.in === 'query')
  if (own.length > 0) {
    const rows = own.map(
      ({ name, schema, description: text = schema.description }) =>
        `| \`${name}\` | ${text ?? ''} |`,
    )
    parts.push(['| parameter | |', '|---|---|', ...rows].join('\n'))
  }
  const body = schemaOf(requestBody)
  if (body !== undefined) parts.push(`Body, \`${body.xml?.name ?? ''}\`:`, table(body))
  parts.push(answersText(responses, elements))
  return parts.join('\n\n')
}

function answersText(
  responses: Readonly<Record<string, Content>>,
  elements: Map<string, Schema>,
): string {
  const statuses = new Map<string, string[]>()
  for (const [status, response] of Object.entries(responses)) {
    for (const what of answerText(response, elements)) {
      statuses.set(what, [...(statuses.get(what) ?? []), status])
    }
  }
  const answers = [...statuses].map(([what, those]) => `${those.join(', ')} ${what}`)
  return `Answers: ${answers.join('; ')}.`
}

function answerText(response: Content, elements: Map<string, Schema>): string[] {
  const schema = schemaOf(response)
  const name = schema?.xml?.name
  if (schema === undefined || name === undefined) {
    return Object.keys(response.content ?? {}).map((type) => `\`${type}\``)
  }
  const [item] = Object.values(schema.properties ?? {})
  const inner = item?.items?.xml?.name
  // A list is told by what it has.
  if (inner === undefined || item?.items === undefined) elements.set(name, schema)
  else elements.set(inner, item.items)
  return [`[${name}](#${inner ?? name})`]
}

function schemaOf({ content = {} }: Content = {}): Schema | undefined {
  return (content['application/json'] ?? content['application/x-www-form-urlencoded'])?.schema
}

/** Nested members by their path. */
function table(schema: Schema): string {
  return ['| member | | |', '|---|---|---|', ...rows(schema, '')].join('\n')
}

function rows({ properties = {}, required = [] }: Schema, prefix: string): string[] {
  return Object.entries(properties).flatMap(([name, member]) => {
    const path = `${prefix}${name}`
    const inner = member.items ?? member
    const values = (member.enum ?? (member.const === undefined ? [] : [member.const]))
      .map((value) => `\`${value}\``)
      .join(', ')
    const kind = required.includes(name) ? '' : 'optional'
    const text = [values, member.description ?? inner.description ?? '']
      .filter((part) => part !== '')
      .join('. ')
    return [`| \`${path}\` | ${kind} | ${text} |`, ...rows(inner, `${path}.`)]
  })
}
