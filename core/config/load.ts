/**
 * Finds, merges and checks configuration files. All `*.conf` of the administrator's directory and of
 * the vendor's are sorted together by base name; later files override earlier ones option by
 * option, and for equal base names the administrator's file is the later one.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ConfigError } from './config-error.js'
import { DEFAULT_SECTION, parseIni, type IniDocument, type IniEntry } from './ini.js'
import type { ConfigOf, Option, Schema } from './schema.js'

export const DEFAULT_CONFIG_DIR = '/etc/ovirt-imageio'
export const VENDOR_DIR = '/usr/lib/ovirt-imageio/conf.d'

/**
 * How a check of several options together says what it found; file and line are added. Nothing is said
 * of an option whose value is not allowed in the first place, nor of one that is judged by `others` of
 * its section of which one is.
 */
export interface Report {
  readonly fail: (section: string, key: string, reason: string, ...others: string[]) => void
  readonly warn: (section: string, key: string, reason: string) => void
}

export interface LoadOptions<S extends Schema> {
  /** Holds `conf.d`. */
  readonly dir: string
  readonly vendorDir?: string
  /** Checks that need more than one option. */
  readonly check?: (config: ConfigOf<S>, report: Report) => void
}

export interface LoadedConfig<T> {
  readonly config: T
  /** The same without secrets, for people. */
  readonly shown: object
  /** What is written in vain, one line each, naming file, section and key. */
  readonly warnings: readonly string[]
  /** The files read, in order. */
  readonly files: readonly string[]
}

export function loadConfig<S extends Schema>(
  schema: S,
  { dir, vendorDir = VENDOR_DIR, check }: LoadOptions<S>,
): LoadedConfig<ConfigOf<S>> {
  const files = findFiles(dir, vendorDir)
  const written = merge(files.map((file) => parseIni(readText(file), file)))
  const effective = applyDefaultSection(written)
  const problems: string[] = []
  const wrong = new Set<string>()
  const values = typedValues(schema, effective, (section, key, problem) => {
    wrong.add(nameOf(section, key))
    problems.push(problem)
  })
  const config = deepFreeze(values) as ConfigOf<S>
  const unparsed = new Set(wrong)
  const warnings = unknownOptions(schema, written)
  const line = (section: string, key: string, reason: string): string => {
    const entry = effective.get(section)?.get(key)
    return `${entry ? place(entry) : dir}: ${nameOf(section, key)}: ${reason}`
  }
  check?.(config, {
    fail: (section, key, reason, ...others) => {
      if ([key, ...others].some((one) => unparsed.has(nameOf(section, one)))) return
      wrong.add(nameOf(section, key))
      problems.push(line(section, key, reason))
    },
    warn: (section, key, reason) => {
      if (!unparsed.has(nameOf(section, key))) warnings.push(line(section, key, reason))
    },
  })
  if (problems.length > 0) {
    const findings = { problems, warnings, wrong, config }
    throw new ConfigError(problems.join('\n'), { findings })
  }
  return { config, shown: withoutSecrets(schema, config), warnings, files }
}

/** Every section that is written, for a schema that depends on them. */
export function sectionNames(dir: string, vendorDir = VENDOR_DIR): string[] {
  const files = findFiles(dir, vendorDir)
  return [...merge(files.map((file) => parseIni(readText(file), file))).keys()]
}

function findFiles(dir: string, vendorDir: string): string[] {
  const own = join(dir, 'conf.d')
  const mine = listConf(own)
  if (mine.length === 0) {
    throw new ConfigError(`no configuration: ${own} holds no *.conf file (choose with --conf-dir)`)
  }
  // The sort is stable, so with equal names the vendor's file stays before the administrator's.
  return [...listConf(vendorDir), ...mine].sort((a, b) =>
    Buffer.compare(Buffer.from(basename(a)), Buffer.from(basename(b))),
  )
}

function listConf(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
      .map((name) => join(dir, name))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw unreadable(dir, cause)
  }
}

function readText(file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (cause) {
    throw unreadable(file, cause)
  }
}

function unreadable(path: string, cause: unknown): ConfigError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new ConfigError(`${path}: cannot be read: ${reason}`, { cause })
}

function merge(documents: IniDocument[]): IniDocument {
  const merged: IniDocument = new Map()
  for (const [name, section] of documents.flatMap((document) => [...document])) {
    merged.set(name, new Map([...(merged.get(name) ?? []), ...section]))
  }
  return merged
}

function applyDefaultSection(written: IniDocument): IniDocument {
  const defaults = written.get(DEFAULT_SECTION) ?? []
  return new Map(Array.from(written, ([name, own]) => [name, new Map([...defaults, ...own])]))
}

/** With the default in place of what is not allowed, which is told. */
function typedValues(
  schema: Schema,
  document: IniDocument,
  refuse: (section: string, key: string, problem: string) => void,
): Record<string, object> {
  return mapRecord(schema, (options, section) =>
    mapRecord(options, (option, key) => {
      const entry = document.get(section)?.get(key)
      if (entry === undefined) return option.default
      const value = option.parse(entry.value)
      if (value !== undefined) return value
      refuse(section, key, `${place(entry)}: ${nameOf(section, key)}: ${complaint(option, entry)}`)
      return option.default
    }),
  )
}

function complaint(option: Option<unknown>, { value }: IniEntry): string {
  const part = option.wrongPart?.(value) ?? value
  return `must be ${option.allowed}, not ${JSON.stringify(option.redact?.(part) ?? part)}`
}

function withoutSecrets(schema: Schema, config: Readonly<Record<string, object>>): object {
  return mapRecord(config, (section, name) =>
    mapRecord(section as Readonly<Record<string, unknown>>, (value, key) => {
      const redact = schema[name]?.[key]?.redact
      return redact !== undefined && typeof value === 'string' ? redact(value) : value
    }),
  )
}

function unknownOptions(schema: Schema, written: IniDocument): string[] {
  const sections = new Map(Object.entries(schema))
  const everyKey = new Set(Object.values(schema).flatMap((options) => Object.keys(options)))
  const warnings: string[] = []
  for (const [name, entries] of written) {
    const options = sections.get(name)
    const known = name === DEFAULT_SECTION ? everyKey : new Set(Object.keys(options ?? {}))
    const what = options || name === DEFAULT_SECTION ? 'unknown option' : 'unknown section'
    for (const [key, entry] of entries) {
      if (known.has(key)) continue
      warnings.push(`${place(entry)}: [${name}] ${key}: ${what}, ignored`)
    }
  }
  return warnings
}

function mapRecord<A, B>(
  record: Readonly<Record<string, A>>,
  change: (value: A, key: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value, key)]))
}

function nameOf(section: string, key: string): string {
  return `[${section}] ${key}`
}

function place({ file, line }: IniEntry): string {
  return `${file}:${line}`
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze)
  return Object.freeze(value)
}
