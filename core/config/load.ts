/**
 * Finds, merges and checks configuration files. All `*.conf` of the administrator's directory and of
 * the vendor's are sorted together by base name; later files override earlier ones option by
 * option, and for equal base names the administrator's file is the later one.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ConfigError } from './config-error.js'
import { DEFAULT_SECTION, parseIni, type IniDocument, type IniEntry } from './ini.js'
import type { ConfigOf, Option, Schema, SectionSchema } from './schema.js'

export const DEFAULT_CONFIG_DIR = '/etc/ovirt-imageio'
export const VENDOR_DIR = '/usr/lib/ovirt-imageio/conf.d'

/** Refuses a value that is wrong only together with others. */
export type Fail = (section: string, key: string, reason: string) => never

export interface LoadOptions<S extends Schema> {
  /** Holds `conf.d`. */
  dir: string
  vendorDir?: string
  /** Checks that need more than one option. */
  check?: (config: ConfigOf<S>, fail: Fail) => void
}

export interface LoadedConfig<T> {
  readonly config: T
  /** Options nobody knows, one sentence each, naming file, section and key. */
  readonly warnings: readonly string[]
  /** The files read, in order. */
  readonly files: readonly string[]
}

export function loadConfig<S extends Schema>(
  schema: S,
  { dir, vendorDir = VENDOR_DIR, check }: LoadOptions<S>,
): LoadedConfig<ConfigOf<S>> {
  const files = findFiles(dir, vendorDir)
  const merged = merge(files.map((file) => parseIni(readText(file), file)))
  const config = deepFreeze(typedValues(schema, merged)) as ConfigOf<S>
  check?.(config, (section, key, reason) => {
    const entry = merged.get(section)?.get(key)
    throw new ConfigError(`${entry ? place(entry) : dir}: [${section}] ${key}: ${reason}`)
  })
  return { config, warnings: unknownOptions(schema, merged), files }
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
    throw new ConfigError(`${dir}: cannot be read: ${String(cause)}`, { cause })
  }
}

function readText(file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file))
  } catch (cause) {
    throw new ConfigError(`${file}: cannot be read: ${String(cause)}`, { cause })
  }
}

function merge(documents: IniDocument[]): IniDocument {
  const merged: IniDocument = new Map()
  for (const [name, section] of documents.flatMap((document) => [...document])) {
    merged.set(name, new Map([...(merged.get(name) ?? []), ...section]))
  }
  const defaults = merged.get(DEFAULT_SECTION) ?? []
  for (const [name, section] of merged) {
    if (name !== DEFAULT_SECTION) merged.set(name, new Map([...defaults, ...section]))
  }
  return merged
}

function typedValues(schema: Schema, merged: IniDocument): Record<string, Record<string, unknown>> {
  return mapRecord(schema, (options, section) =>
    mapRecord(options, (option, key) =>
      typedValue(option, merged.get(section)?.get(key), `[${section}] ${key}`),
    ),
  )
}

function typedValue(option: Option<unknown>, entry: IniEntry | undefined, name: string): unknown {
  if (entry === undefined) return option.default
  const value = option.parse(entry.value)
  if (value !== undefined) return value
  const written = JSON.stringify(entry.value)
  throw new ConfigError(`${place(entry)}: ${name}: must be ${option.allowed}, not ${written}`)
}

function unknownOptions(schema: Schema, merged: IniDocument): string[] {
  const warnings: string[] = []
  for (const [name, section] of merged) {
    const options = lookUp(schema, name)
    for (const [key, entry] of section) {
      if (name === DEFAULT_SECTION) {
        if (Object.values(schema).some((known) => lookUp(known, key))) continue
      } else if (merged.get(DEFAULT_SECTION)?.get(key) === entry) {
        continue // meant for other sections
      } else if (options && lookUp(options, key)) continue
      const what = options || name === DEFAULT_SECTION ? 'unknown option' : 'unknown section'
      warnings.push(`${place(entry)}: [${name}] ${key}: ${what}, ignored`)
    }
  }
  return warnings
}

function lookUp<T extends Schema[string] | SectionSchema[string]>(
  table: Readonly<Record<string, T>>,
  key: string,
): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined
}

function mapRecord<A, B>(
  record: Readonly<Record<string, A>>,
  change: (value: A, key: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value, key)]))
}

function place(entry: IniEntry): string {
  return `${entry.file}:${entry.line}`
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze)
  return Object.freeze(value)
}
