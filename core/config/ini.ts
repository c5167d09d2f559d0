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

export type IniSection = Map<string, IniEntry>

/** Section name → option name in lower case → entry. */
export type IniDocument = Map<string, IniSection>

/** Its options are defaults for every section present in the files. */
export const DEFAULT_SECTION = 'DEFAULT'

interface OpenEntry {
  readonly section: IniSection
  readonly key: string
  readonly line: number
  readonly lines: string[]
}

const SECTION = /^\[(.+)\]/
const OPTION = /^(.*?)\s*[=:]\s*(.*)$/

export function parseIni(text: string, file: string): IniDocument {
  const document: IniDocument = new Map()
  let section: IniSection | undefined
  let open: OpenEntry | undefined
  let indent = 0

  const finish = (): void => {
    if (open === undefined) return
    const value = open.lines.join('\n').trimEnd()
    open.section.set(open.key, { value, file, line: open.line })
    open = undefined
  }

  for (const [index, raw] of splitLines(text)) {
    const fail = (reason: string): never => {
      throw new ConfigError(`${file}:${index}: ${reason}`)
    }
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
    finish()
    indent = depth
    const header = SECTION.exec(content)?.[1]
    if (header !== undefined) {
      section = openSection(document, header) ?? fail(`section [${header}] is given twice`)
      continue
    }
    if (section === undefined) return fail('an option outside of any [section]')
    const [, name, value] = OPTION.exec(content) ?? []
    if (!name || value === undefined) return fail('neither [section], nor "key = value"')
    const key = name.toLowerCase()
    if (section.has(key)) fail(`option "${key}" is given twice in one section`)
    section.set(key, { value, file, line: index })
    open = { section, key, line: index, lines: [value] }
  }
  finish()
  return document
}

/** The new section, or undefined when the file has it already; only DEFAULT may be continued. */
function openSection(document: IniDocument, name: string): IniSection | undefined {
  const known = document.get(name)
  if (known !== undefined) return name === DEFAULT_SECTION ? known : undefined
  const section: IniSection = new Map()
  document.set(name, section)
  return section
}

function* splitLines(text: string): Generator<[number, string]> {
  let number = 0
  for (const line of text.split(/\r\n|\r|\n/)) yield [++number, line]
}
