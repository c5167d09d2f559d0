/**
 * The expressions found in log handler sections: strings, integers and products of them (20 * 1024),
 * None, True and False, tuples, lists and dicts. Python syntax, nothing evaluated.
 */
export type Literal = string | number | boolean | null | Literal[] | Map<Literal, Literal>

const TOKEN =
  /\s*(?:('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|([+-]?\d[\d_]*)|(None|True|False)|([()[\]{},:*]))/y
const CONSTANTS: Readonly<Record<string, Literal>> = { None: null, True: true, False: false }
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t' }

interface Token {
  readonly mark?: string
  readonly value?: Literal
}

/** The value, or undefined when the text is anything else than one of these. */
export function parseLiteral(text: string): Literal | undefined {
  const tokens = tokenize(text)
  if (tokens === undefined) return undefined
  const reader = new Reader(tokens)
  const value = reader.literal()
  return reader.isAtEnd() ? value : undefined
}

function tokenize(text: string): Token[] | undefined {
  const tokens: Token[] = []
  const source = text.trimEnd()
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < source.length) {
    const found = TOKEN.exec(source)
    if (found === null) return undefined
    const [, quoted, digits, constant, mark] = found
    if (mark !== undefined) tokens.push({ mark })
    else if (constant !== undefined) tokens.push({ value: CONSTANTS[constant] ?? null })
    else if (digits !== undefined) tokens.push({ value: Number(digits.replaceAll('_', '')) })
    else tokens.push({ value: unquote(quoted ?? '') })
  }
  return tokens
}

function unquote(text: string): string {
  return text
    .slice(1, -1)
    .replace(/\\(.)/gs, (escape, one: string) =>
      `\\'"`.includes(one) ? one : (ESCAPES[one] ?? escape),
    )
}

class Reader {
  readonly #tokens: Token[]
  #next = 0

  constructor(tokens: Token[]) {
    this.#tokens = tokens
  }

  isAtEnd(): boolean {
    return this.#next === this.#tokens.length
  }

  literal(): Literal | undefined {
    let value = this.#factor()
    while (value !== undefined && this.#take('*')) {
      const factor = this.#factor()
      if (typeof value !== 'number' || typeof factor !== 'number') return undefined
      value *= factor
    }
    return value
  }

  #factor(): Literal | undefined {
    const token = this.#tokens[this.#next++]
    if (token?.mark === undefined) return token?.value
    if (token.mark === '(') return this.#tuple()
    if (token.mark === '[') return this.#items(']')
    return token.mark === '{' ? this.#dict() : undefined
  }

  /** `(x)` is x in parentheses, `(x,)` a tuple. */
  #tuple(): Literal | undefined {
    const items = this.#items(')')
    const isTuple = this.#tokens[this.#next - 2]?.mark === ',' || items?.length !== 1
    return isTuple ? items : items[0]
  }

  #items(end: string): Literal[] | undefined {
    const items: Literal[] = []
    while (!this.#take(end)) {
      const item = this.literal()
      if (item === undefined) return undefined
      items.push(item)
      if (!this.#take(',') && !this.#sees(end)) return undefined
    }
    return items
  }

  #dict(): Map<Literal, Literal> | undefined {
    const dict = new Map<Literal, Literal>()
    while (!this.#take('}')) {
      const key = this.literal()
      const value = this.#take(':') ? this.literal() : undefined
      if (key === undefined || value === undefined) return undefined
      dict.set(key, value)
      if (!this.#take(',') && !this.#sees('}')) return undefined
    }
    return dict
  }

  #sees(mark: string): boolean {
    return this.#tokens[this.#next]?.mark === mark
  }

  #take(mark: string): boolean {
    if (!this.#sees(mark)) return false
    this.#next++
    return true
  }
}
