/** What every resource is made of: the application with typed schemas, the service, the paths. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Type, type TObject, type TSchema } from 'typebox'
import { FaultError } from '../fault.js'
import type { Links } from './links.js'
import type { ApiSettings } from './options.js'
import type { Parameters } from './parameters.js'
import type { Streams } from './streams.js'
import { Fault, Id } from './schemas.js'
import type { VmStore } from './vm-store.js'

export type ApiApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

export interface Context {
  readonly app: ApiApp
  readonly settings: ApiSettings
  readonly links: Links
  readonly streams: Streams
  readonly vms: VmStore
}

export const IdParams = Type.Object({ id: Id })

export function parametersOf({ query }: { readonly query: unknown }): Parameters {
  return query as Parameters
}

/** The object, or the fault that says which kind there is none of. */
export function found<T>(what: string, object: T | undefined): T {
  if (object !== undefined) return object
  throw new FaultError(404, 'Not Found', `There is no such ${what}`)
}

export const text = (description: string): TSchema => Type.Optional(Type.String({ description }))

/** All are strings: what cannot be read is ignored, never refused. */
export const LIST_PARAMETERS = {
  max: text('At most so many'),
  follow: text('Links to show whole, by name, separated by commas'),
}

export const SEARCH_PARAMETERS = {
  search: text('Which ones; see [Search](#search)'),
  case_sensitive: text('`true`: case counts in searches'),
  ...LIST_PARAMETERS,
}

/** A list, as JSON has it. */
export function listOf(name: string, member: string, item: TSchema): TObject {
  return Type.Object({ [member]: Type.Array(item) }, { xml: { name } })
}

/** An answer of a form of its own, for the documentation. */
export function textOf(
  type: string,
  description: string,
): { description: string; content: Record<string, { schema: TSchema }> } {
  return { description, content: { [type]: { schema: Type.String() } } }
}

/** An operation's own answers and faults, beside those that are common to all. */
export function answers(
  own: Readonly<Record<number, TSchema>>,
  ...faults: readonly number[]
): Record<number, TSchema> {
  return { ...own, ...Object.fromEntries(faults.map((status) => [status, Fault])) }
}
