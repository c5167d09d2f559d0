/**
 * The INI dialect existing configuration files are written in: `[section]`, `key = value` or
 * `key: value`, full-line comments with `#` or `;`, continuation lines indented deeper than their
 * key. No inline comments, quotes, escapes or `%` interpolation: a value is what is written.
 */
import { ConfigError } from './config-error.js'

/** One value as written, with the place it was written at. */
export interface IniEntry {
  readonly value: string
  readonly file: string
  readonly line: number
}

/** Section name → option name in lower case → entry. */
export type IniDocument = Map<string, Map<string, IniEntry>>

/** Its options are defaults for every section present in the files. */
export const DEFAULT_SECTION = 'DEFAULT'

const SECTION = /^\[(.+)\]/
const OPTION = /^(.*?)\s*[=:]\s*(.*)$/

export function parseIni(text: string, file: string): IniDocument {
  const document = new Map<string, Map<string, OpenEntry>>()
  let section: Map<string, OpenEntry> | undefined
  let open: OpenEntry | undefined
  let indent = 0

  for (const [index, raw] of text.split(/\r\n|\r|\n/).entries()) {
    const line = index + 1
    const refuse = (reason: string) => new ConfigError(`${file}:${line}: ${reason}`)
    const content = raw.trim()
    if (content.startsWith('#') || content.startsWith(';')) continue
    if (content === '') {
      open?.lines.push('') // a blank line inside a continued value belongs to it
      continue
    }
    const depth = raw.length - raw.trimStart().length
    if (open !== undefined && depth > indent) {
      open.lines.push(content)
      continue
    }
    indent = depth
    open = undefined
    const header = SECTION.exec(content)?.[1]
    if (header !== undefined) {
      section = document.get(header) ?? new Map<string, OpenEntry>()
      if (document.has(header) && header !== DEFAULT_SECTION) {
        throw refuse(`section [${header}] is given twice`)
      }
      document.set(header, section)
      continue
    }
    if (section === undefined) throw refuse('an option outside of any [section]')
    const [, name, value] = OPTION.exec(content) ?? []
    if (!name || value === undefined) throw refuse('neither [section], nor "key = value"')
    const key = name.toLowerCase()
    if (section.has(key)) throw refuse(`option "${key}" is given twice in one section`)
    open = { lines: [value], file, line }
    section.set(key, open)
  }
  return new Map(Array.from(document, ([name, entries]) => [name, closeAll(entries)]))
}

interface OpenEntry {
  readonly lines: string[]
  readonly file: string
  readonly line: number
}

function closeAll(entries: Map<string, OpenEntry>): Map<string, IniEntry> {
  return new Map(
    Array.from(entries, ([key, { lines, ...place }]) => [
      key,
      { value: lines.join('\n').trimEnd(), ...place },
    ]),
  )
}
