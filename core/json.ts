/**
 * JSON whose integers keep all their digits: ticket sizes go up to 2^64, a JavaScript number holds 2^53
 * exactly. Larger integers come in and go out as bigint.
 */
type SourceReviver = (key: string, value: unknown, context: { source?: string }) => unknown

// Not yet in TypeScript's library.
const { rawJSON } = JSON as typeof JSON & { rawJSON: (text: string) => unknown }

/** Throws SyntaxError, also when the bytes are not UTF-8 or the text is nested too deeply. */
export function parseExactJson(bytes: Uint8Array): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return JSON.parse(text, keepDigits as Parameters<typeof JSON.parse>[1]) as unknown
  } catch (cause) {
    if (cause instanceof SyntaxError) throw cause
    throw new SyntaxError('cannot be read as JSON', { cause })
  }
}

/** ASCII only, ends with a newline. Takes bigint. */
export function stringifyJson(value: unknown): string {
  return `${escapeJson(toJson(value))}\n`
}

/** The same without the newline and as Unicode; indented by `indent` blanks when given. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_key, member: unknown) => rawInteger(member), indent)
}

function rawInteger(value: unknown): unknown {
  return typeof value === 'bigint' ? rawJSON(String(value)) : value
}

const keepDigits: SourceReviver = (_key, value, { source }) => {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  return source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value
}

function escapeJson(text: string): string {
  return text.replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
