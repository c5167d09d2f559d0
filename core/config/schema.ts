/**
 * What an option may be. A schema is a table of sections, a section a table of options; the type of
 * the loaded configuration follows from it, so type, default, range and reason stand in one place.
 */
import { randomBytes } from 'node:crypto'
import { isAbsolute } from 'node:path'

export interface Option<T> {
  /** Shown in the documentation. */
  readonly type: 'string' | 'integer' | 'float' | 'boolean' | 'socket' | 'choice'
  readonly default: T
  /** What it does and why it has this default. */
  readonly description: string
  /** What is allowed, completing "must be …". */
  readonly allowed: string
  /** The value, or undefined when the text is not allowed. */
  readonly parse: (text: string) => T | undefined
  /** What may be shown of a text that may hold a secret, whether it is allowed or not. */
  readonly redact?: (text: string) => string
  /** Of a text that is not allowed the part to be named; all of it where there is none. */
  readonly wrongPart?: (text: string) => string | undefined
}

export type SectionSchema = Readonly<Record<string, Option<unknown>>>
export type Schema = Readonly<Record<string, SectionSchema>>

export type ConfigOf<S extends Schema> = {
  readonly [Name in keyof S]: {
    readonly [Key in keyof S[Name]]: S[Name][Key] extends Option<infer T> ? T : never
  }
}

interface Base<T> {
  default: T
  description: string
}

interface Range {
  min?: number
  max?: number
  multipleOf?: number
}

/** A list, separated as `split` does it. */
export function list(
  spec: Base<string> & {
    allowed: string
    split: (text: string) => readonly string[]
    accept: (item: string) => boolean
  },
): Option<string> {
  const wrongPart = (text: string): string | undefined =>
    spec.split(text).find((item) => !spec.accept(item))
  const accept = (text: string): boolean => wrongPart(text) === undefined
  return { ...string({ ...spec, accept }), wrongPart }
}

export function string(
  spec: Base<string> & {
    allowed?: string
    accept?: (text: string) => boolean
    redact?: (text: string) => string
  },
): Option<string> {
  const { accept = () => true, allowed = 'text', redact } = spec
  const parse = (text: string): string | undefined => (accept(text) ? text : undefined)
  return { type: 'string', ...pick(spec), allowed, parse, ...(redact && { redact }) }
}

export function integer(spec: Base<number> & Range): Option<number> {
  return numeric('integer', 'an integer', /^[+-]?\d+$/, spec)
}

export function float(spec: Base<number> & Range): Option<number> {
  return numeric('float', 'a number', /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i, spec)
}

const BOOLEANS = new Map([
  ...['true', 'yes', 'on', '1'].map((text) => [text, true] as const),
  ...['false', 'no', 'off', '0'].map((text) => [text, false] as const),
])

export function boolean(spec: Base<boolean>): Option<boolean> {
  const parse = (text: string): boolean | undefined => BOOLEANS.get(text.toLowerCase())
  return { type: 'boolean', ...pick(spec), allowed: 'true/yes/on/1 or false/no/off/0', parse }
}

/** One of a few words, in any case; comes out as listed. */
export function choice<const T extends string>(
  spec: Base<NoInfer<T>> & { of: readonly T[] },
): Option<T> {
  const parse = (text: string): T | undefined =>
    spec.of.find((word) => word.toLowerCase() === text.toLowerCase())
  return { type: 'choice', ...pick<T>(spec), allowed: `one of ${spec.of.join(', ')}`, parse }
}

/** sun_path holds 108 bytes; a path ends, an abstract name begins with NUL, which is one of them. */
const MAX_SOCKET_NAME = 107

/**
 * The address of a Unix socket. `@name`, `\0name` and a literal NUL mean an abstract name and come
 * out with a leading NUL; enclosing double quotes, as in a sample that was once packaged, are
 * removed; empty is a random abstract name.
 */
export function socket(spec: Base<string>): Option<string> {
  const allowed = `an absolute path or @name of at most ${MAX_SOCKET_NAME} bytes`
  return { type: 'socket', ...pick(spec), allowed, parse: parseSocket }
}

function parseSocket(text: string): string | undefined {
  const bare = /^"(.*)"$/.exec(text)?.[1] ?? text
  if (bare === '') return `\0imageio-${randomBytes(8).toString('hex')}`
  const address = bare.replace(/^(?:@|\\0)/, '\0')
  const isAbstract = address.startsWith('\0')
  const name = isAbstract ? address.slice(1) : address
  const isShort = Buffer.byteLength(name) <= MAX_SOCKET_NAME
  const isNamed = isAbstract ? name !== '' : isAbsolute(name)
  return isShort && isNamed && !name.includes('\0') ? address : undefined
}

function numeric(
  type: 'integer' | 'float',
  noun: string,
  syntax: RegExp,
  spec: Base<number> & Range,
): Option<number> {
  const { min = -Infinity, max = Infinity, multipleOf } = spec
  const parse = (text: string): number | undefined => {
    const value = syntax.test(text) ? Number(text) : NaN
    const isInside = Number.isFinite(value) && value >= min && value <= max
    const isMultiple = multipleOf === undefined || value % multipleOf === 0
    const isExact = type === 'float' || Number.isSafeInteger(value)
    return isInside && isMultiple && isExact ? value + 0 : undefined // + 0 turns -0 into 0
  }
  return { type, ...pick(spec), allowed: noun + describeRange(spec), parse }
}

function describeRange({ min, max, multipleOf }: Range): string {
  const lower = min === undefined ? '' : `, at least ${min}`
  const upper = max === undefined ? '' : `, at most ${max}`
  return lower + upper + (multipleOf === undefined ? '' : `, a multiple of ${multipleOf}`)
}

function pick<T>({ default: value, description }: Base<T>): Base<T> {
  return { default: value, description }
}
