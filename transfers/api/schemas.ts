/**
 * Parts of schemas. What comes in and goes out are strings, as engines send them; numbers and booleans
 * are accepted too and made strings before a schema sees them.
 */
import { Type, type Static, type TOptional, type TString } from 'typebox'
import { FaultError } from '../fault.js'

/** Ids end up in file names, so the check is strict. */
export const ID_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'

/** In a path they name nothing, or are nonsense; bodies with such are refused by their schema. */
export function notAnId(written: readonly string[]): FaultError {
  if (written.some((text) => /\p{Cc}/u.test(text))) {
    return new FaultError(400, 'Invalid value', `The path has a control character; ${ID_RULE}`)
  }
  return new FaultError(404, 'Not Found', `There is nothing of this id; ${ID_RULE}`)
}

export const ID_RULE =
  'ids are letters, digits, dots, hyphens and underscores, begin with a letter or digit, and have ' +
  'at most 64 characters'

export const Id = Type.String({ pattern: ID_PATTERN, xml: { attribute: true } })
export const Href = Type.String({ xml: { attribute: true } })

const SIZE_PATTERN = '^\\d{1,20}$'
const SIZE = { pattern: SIZE_PATTERN }
export const Size = (description: string): TString => Type.String({ ...SIZE, description })
export const OptionalSize = (description: string): TOptional<TString> =>
  Type.Optional(Size(description))

const BOOLEAN_PATTERN = '^([Tt]rue|[Ff]alse|TRUE|FALSE|1|0)$'

export const OptionalBoolean = (description: string): TOptional<TString> =>
  Type.Optional(Type.String({ pattern: BOOLEAN_PATTERN, description }))

const TEXT_PATTERN = '^([^\\p{Cc}\\p{Cs}]|[\\t\\n\\r])*$'
const NAME_PATTERN = '^[^\\p{Cc}\\p{Cs}]*$'

/** One line of well-formed Unicode, of a length that lists and logs can bear. */
export const OptionalName = (description: string): TOptional<TString> =>
  Type.Optional(Type.String({ maxLength: 255, pattern: NAME_PATTERN, description }))

/** The same, of what has one already: an empty one is refused, not taken for none. */
export const OptionalNewName = (description: string): TOptional<TString> =>
  Type.Optional(Type.String({ minLength: 1, maxLength: 255, pattern: NAME_PATTERN, description }))

/** An object that is meant by its id, or else its name; clients send all of it. */
export const Reference = Type.Object({
  id: Type.Optional(Id),
  name: Type.Optional(Type.String({ maxLength: 255 })),
})
export type Reference = Static<typeof Reference>

export const Link = Type.Object({ href: Href, rel: Type.String({ xml: { attribute: true } }) })
export const LinkedObject = Type.Object({ href: Type.Optional(Href), id: Id })
export const Actions = Type.Object({ link: Type.Array(Link) })

export const Fault = Type.Object(
  {
    reason: Type.String({ description: 'A short class of what is wrong' }),
    detail: Type.String({ description: 'What is wrong' }),
  },
  { xml: { name: 'fault' } },
)

export const Action = Type.Object({ status: Type.Literal('complete') }, { xml: { name: 'action' } })

/** Text of several lines, that every form of an answer can hold. */
export const OptionalText = Type.Optional(Type.String({ maxLength: 4096, pattern: TEXT_PATTERN }))

/** What patterns mean, for people. */
export const RULES: ReadonlyMap<string, string> = new Map([
  [ID_PATTERN, `is no id: ${ID_RULE}`],
  [SIZE_PATTERN, 'must be a whole number, not negative, of at most 20 digits'],
  [BOOLEAN_PATTERN, 'must be true or false'],
  [NAME_PATTERN, 'must be one line without control characters, in well-formed Unicode'],
  [TEXT_PATTERN, 'must be well-formed Unicode without control characters but tabs and line ends'],
])

export const DONE = { status: 'complete' } as const

/** Bytes or seconds that a JavaScript number holds exactly. */
export function numberOf(name: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value)) return value
  throw new FaultError(
    400,
    'Invalid value',
    `${name} is too large; at most ${Number.MAX_SAFE_INTEGER}`,
  )
}

export function truthOf(text: string | undefined, otherwise: boolean): boolean {
  return text === undefined ? otherwise : /^(true|1)$/i.test(text)
}
