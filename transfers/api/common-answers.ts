/** Answers that requests have whatever they ask for, as the documentation has them. */
import { Type, type TObject, type TSchema } from 'typebox'
import { Fault } from './schemas.js'

export const MEDIA = ['application/xml', 'application/json']

const RETRY_AFTER = Type.String({ description: 'Seconds after which it may work' })

export function withRetryAfter<T extends TObject>(
  schema: T,
): T & { headers: Record<string, TSchema> } {
  return { ...schema, headers: { 'Retry-After': RETRY_AFTER } }
}

/** In both forms, also where all else is JSON. */
const fault = (description: string): { description: string; content: object } => ({
  description,
  content: Object.fromEntries(MEDIA.map((type) => [type, { schema: Fault }])),
})

/** `isOpen`: without a login. */
export function commonAnswers(
  method: string,
  { isOpen, isStream }: { readonly isOpen: boolean; readonly isStream: boolean },
): Record<number, object> {
  return {
    ...(isOpen ? {} : { 401: Fault, 429: withRetryAfter(Fault) }),
    ...(isOpen || isStream ? {} : { 406: Fault }),
    ...(isOpen || !READ.has(method) ? {} : { 413: Fault }),
    431: fault('Too long a head'),
    503: { ...fault('Not now'), headers: { 'Retry-After': RETRY_AFTER } },
  }
}

/** Methods whose body is read, also where it says nothing. */
const READ: ReadonlySet<string> = new Set(['POST', 'PUT'])
