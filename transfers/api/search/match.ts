/** Applies a search to a list. */
import { integerOf, booleanOf, type Parameters } from '../parameters.js'
import { parseSearch, wrong, type Operator, type Term } from './parse.js'

/** What can be searched for, by its name in lower case. */
export type Fields<T> = Readonly<
  Record<string, (item: T) => string | number | readonly string[] | undefined>
>

/** Words that the server made up, so that their case means nothing. */
const ENUMS: ReadonlySet<string> = new Set(['status', 'format', 'disk_type', 'disk_content_type'])

/** The list as `search`, `case_sensitive` and `max` want it. */
export function searched<T>(
  items: readonly T[],
  fields: Fields<T>,
  parameters: Parameters,
): readonly T[] {
  const { search: text = '', max, case_sensitive: sensitive } = parameters
  const { anyOf, sortBy, page } = parseSearch(text)
  const ignoresCase = booleanOf(sensitive) !== true
  const groups = anyOf.map((terms) => terms.map((term) => tester(term, fields, ignoresCase)))
  const found = items.filter(
    (item) => groups.length === 0 || groups.some((terms) => terms.every((test) => test(item))),
  )
  if (sortBy !== undefined) {
    const valueOf = fieldOf(fields, sortBy.field)
    const sign = sortBy.isDescending ? -1 : 1
    found.sort((a, b) => sign * compare(valueOf(a), valueOf(b)))
  }
  const size = integerOf(max) ?? (page === undefined ? Infinity : DEFAULT_PAGE)
  const start = page === undefined || page < 2 ? 0 : (page - 1) * size
  return found.slice(start, start + size)
}

/** As an engine, which has 100 on a page of its search. */
const DEFAULT_PAGE = 100

type FieldValue = string | number | readonly string[] | undefined

function tester<T>(term: Term, fields: Fields<T>, ignoresCase: boolean): (item: T) => boolean {
  const name = term.field ?? 'name'
  const valueOf = fieldOf(fields, name)
  const { operator, value } = term
  const test = matcher(value, ignoresCase || ENUMS.has(name))
  return (item) => {
    const found = valueOf(item)
    if (operator === '=' || operator === '!=') {
      const matches = [found].flat().some((text) => text !== undefined && test(String(text)))
      return matches === (operator === '=')
    }
    return found !== undefined && isOrdered(compare(found, value), operator)
  }
}

function fieldOf<T>(fields: Fields<T>, name: string): (item: T) => FieldValue {
  const valueOf = Object.hasOwn(fields, name) ? fields[name] : undefined
  if (valueOf === undefined) throw wrong(`there is no field '${name.slice(0, 40)}'`)
  return valueOf
}

/**
 * `*` stands for anything. By hand, as a regular expression made from a client's text can take time
 * exponential in its stars.
 */
function matcher(pattern: string, ignoresCase: boolean): (text: string) => boolean {
  const fold = (text: string): string => (ignoresCase ? text.toLowerCase() : text)
  const [first = '', ...rest] = fold(pattern).split('*')
  const last = rest.pop()
  return (raw) => {
    const text = fold(raw)
    if (last === undefined) return text === first
    if (!text.startsWith(first)) return false
    let from = first.length
    for (const part of rest) {
      const at = text.indexOf(part, from)
      if (at < 0) return false
      from = at + part.length
    }
    return text.length - last.length >= from && text.endsWith(last)
  }
}

function compare(a: FieldValue, b: FieldValue): number {
  const [x, y] = [Number(a), Number(b)]
  if (a !== undefined && b !== undefined && !Number.isNaN(x) && !Number.isNaN(y)) return x - y
  const [left, right] = [String(a ?? ''), String(b ?? '')]
  return left < right ? -1 : left > right ? 1 : 0
}

function isOrdered(order: number, operator: Operator): boolean {
  switch (operator) {
    case '>':
      return order > 0
    case '<':
      return order < 0
    case '>=':
      return order >= 0
    default:
      return order <= 0
  }
}
