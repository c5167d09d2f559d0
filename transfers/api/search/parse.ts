/** The part of the engine's search language that clients use (transfer-api.md, 1.2), as a tree. */
import { FaultError } from '../../fault.js'

export type Operator = '=' | '!=' | '>' | '<' | '>=' | '<='

export interface Term {
  /** Undefined: any of the object's names. */
  readonly field: string | undefined
  readonly operator: Operator
  readonly value: string
}

export interface Search {
  /** One of the groups, all of its terms. Empty: everything. */
  readonly anyOf: readonly (readonly Term[])[]
  readonly sortBy: { readonly field: string; readonly isDescending: boolean } | undefined
  readonly page: number | undefined
}

/** Each term is tried on each object. */
const MAX_LENGTH = 2048

const TERM = /^\s*([\w.]+)\s*(==|=|!=|>=|<=|>|<)\s*/
const QUOTED = /^\s*"([^"]*)"/
/** A careless client sends blanks without quotes: a value goes on until a keyword. */
const BARE = /^\s*(.+?)(?=\s+(?:and|or|sortby|page)\s|\s*$)/is
const NEXT = /^\s*(and|or)\s+/i
const TAIL = /^\s*(?:sortby\s+([\w.]+)(?:\s+(asc|desc))?)?\s*(?:page\s+(\d{1,9}))?\s*$/i

export function parseSearch(text: string): Search {
  if (text.length > MAX_LENGTH) throw wrong('it is too long')
  const anyOf: Term[][] = []
  let current: Term[] = []
  let rest = text
  let goesOn = !TAIL.test(rest)
  while (goesOn) {
    const { term, after } = takeTerm(rest)
    if (current.push(term) === 1) anyOf.push(current)
    const [joint = '', word] = NEXT.exec(after) ?? []
    rest = after.slice(joint.length)
    goesOn = word !== undefined
    if (word?.toLowerCase() === 'or') current = []
    if (!goesOn && !TAIL.test(rest)) throw wrong(`'${rest.trim().slice(0, 40)}' is not expected`)
  }
  const [, field, order = '', page] = TAIL.exec(rest) ?? []
  return {
    anyOf,
    sortBy:
      field === undefined
        ? undefined
        : { field: field.toLowerCase(), isDescending: order.toLowerCase() === 'desc' },
    page: page === undefined ? undefined : Number(page),
  }
}

function takeTerm(text: string): { term: Term; after: string } {
  const [head = '', field, operator = '='] = TERM.exec(text) ?? []
  const rest = text.slice(head.length)
  const [whole, value] = QUOTED.exec(rest) ?? BARE.exec(rest) ?? []
  if (whole === undefined || value === undefined) throw wrong('a value is missing')
  const term: Term = {
    field: field?.toLowerCase(),
    operator: operator === '==' ? '=' : (operator as Operator),
    value,
  }
  return { term, after: rest.slice(whole.length) }
}

export function wrong(reason: string): FaultError {
  return new FaultError(400, 'Invalid value', `The search cannot be understood: ${reason}`)
}
