/** Dictionaries of Structured Fields (RFC 9651), as far as our fields need their values. */

/** Bytes and numbers; undefined for any other type. */
export type MemberValue = Buffer | number | undefined

const KEY = /[a-z*][a-z0-9_.*-]*/y
const COMMA = /[ \t]*,[ \t]*/y
const BYTES = /:([A-Za-z0-9+/]*={0,2}):/y
const NUMBER = /-?(?:\d{1,12}\.\d{1,3}|\d{1,15})/y
/** String, display string, token, boolean, date. */
const OTHERS = [
  /%?"(?:[ !#-[\]-~]|\\["\\])*"/y,
  /[A-Za-z*][!#$%&'*+.^_`|~\w:/-]*/y,
  /\?[01]/y,
  /@-?\d{1,15}/y,
] as const

/** Undefined when it is malformed. Of a repeated key the last value counts. */
export function parseDictionary(text: string): ReadonlyMap<string, MemberValue> | undefined {
  const parser = new Parser(text.replace(/^ +| +$/g, ''))
  const members = new Map<string, MemberValue>()
  if (parser.isAtEnd()) return members
  do {
    const [key] = parser.take(KEY) ?? []
    if (key === undefined) return undefined
    const value = parser.skip('=') ? parser.member() : {}
    if (value === undefined || !parser.parameters()) return undefined
    members.set(key, value.value)
    if (parser.isAtEnd()) return members
  } while (parser.take(COMMA) !== undefined)
  return undefined
}

class Parser {
  readonly #text: string
  #position = 0

  constructor(text: string) {
    this.#text = text
  }

  isAtEnd(): boolean {
    return this.#position === this.#text.length
  }

  take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#position
    const match = pattern.exec(this.#text) ?? undefined
    this.#position += match?.[0].length ?? 0
    return match
  }

  skip(text: string): boolean {
    if (!this.#text.startsWith(text, this.#position)) return false
    this.#position += text.length
    return true
  }

  /** An item or an inner list, without its parameters. */
  member(): { value?: MemberValue } | undefined {
    if (!this.skip('(')) return this.#item()
    for (;;) {
      this.take(/ */y)
      if (this.skip(')')) return {}
      if (this.#item() === undefined || !this.parameters()) return undefined
      if (!/[ )]/.test(this.#text.charAt(this.#position))) return undefined
    }
  }

  /** False when they are malformed. None of ours means anything. */
  parameters(): boolean {
    while (this.skip(';')) {
      this.take(/ */y)
      if (this.take(KEY) === undefined) return false
      if (this.skip('=') && this.#item() === undefined) return false
    }
    return true
  }

  #item(): { value?: MemberValue } | undefined {
    const [, base64] = this.take(BYTES) ?? []
    if (base64 !== undefined) return { value: Buffer.from(base64, 'base64') }
    const [number] = this.take(NUMBER) ?? []
    if (number !== undefined) return { value: Number(number) }
    return OTHERS.some((pattern) => this.take(pattern) !== undefined) ? {} : undefined
  }
}
