/**
 * The log sections of existing configuration files: a fixed subset of Python's logging file format.
 * Only what they say about destination and level is used; lines have the daemon's own format.
 */
import type { LogFormat, LogLevel, LogSettings } from '../log.js'
import { MiB } from '../units.js'
import { parseLiteral } from './literal.js'
import { choice, integer, string, type ConfigOf } from './schema.js'

const LEVELS = ['DEBUG', 'INFO', 'WARNING', 'WARN', 'ERROR', 'CRITICAL', 'FATAL'] as const
type Level = (typeof LEVELS)[number]

const PINO_LEVELS: Readonly<Record<Level, LogLevel>> = {
  DEBUG: 'debug',
  INFO: 'info',
  WARNING: 'warn',
  WARN: 'warn',
  ERROR: 'error',
  CRITICAL: 'fatal',
  FATAL: 'fatal',
}
const SEVERITY: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'fatal']
const LINE_FORMAT = '%(asctime)s %(levelname)-7s (%(threadName)s) [%(name)s] %(message)s'

const level = (value: Level, description: string) =>
  choice({ of: LEVELS, default: value, description })
const unused = (value: string, what: string) =>
  string({ default: value, description: `${what}. Accepted and not used.` })
const literal = (value: string, description: string) =>
  string({
    default: value,
    description,
    allowed: 'a Python literal of strings, numbers, tuples and dicts',
    accept: (text) => text === '' || parseLiteral(text) !== undefined,
  })

export const loggingSchema = {
  log: {
    format: choice({
      of: ['auto', 'json', 'pretty'],
      default: 'auto',
      description:
        'Form of a log line. auto writes lines for people on a terminal and one JSON object per ' +
        'line elsewhere, because log collectors should not have to guess at fields.',
    }),
  },
  loggers: { keys: unused('root', 'Names of the loggers; there is one, root') },
  handlers: {
    keys: string({
      default: 'logfile',
      description: 'Handlers defined by handler_ sections: logfile, stderr or both.',
    }),
  },
  formatters: { keys: unused('long', 'Names of the formatters; there is one, long') },
  logger_root: {
    level: level('INFO', 'Least severe level that is logged. DEBUG logs every request.'),
    handlers: string({
      default: 'logfile',
      allowed: 'logfile or stderr',
      accept: (text) => handlerOf(text) !== undefined,
      description: 'The handler in use: logfile or stderr. With both, logfile.',
    }),
    propagate: integer({ default: 0, description: 'Accepted and not used: root has no parent.' }),
  },
  handler_logfile: {
    class: unused('logging.handlers.RotatingFileHandler', 'Handler class'),
    args: literal(
      '("/var/log/ovirt-imageio/daemon.log",)',
      'A tuple whose first item is the file name. The directory must exist.',
    ),
    kwargs: literal(
      `{"maxBytes": ${20 * MiB}, "backupCount": 10}`,
      'maxBytes: size at which a new file is started; backupCount: old files kept. 0 in either ' +
        'means one file that grows. The default bounds the log to 220 MiB.',
    ),
    level: level('DEBUG', 'Least severe level that reaches the file.'),
    formatter: unused('long', 'Formatter name'),
  },
  handler_stderr: {
    class: unused('logging.StreamHandler', 'Handler class'),
    args: unused('()', 'Constructor arguments'),
    level: level('DEBUG', 'Least severe level that reaches standard error.'),
    formatter: unused('long', 'Formatter name'),
  },
  formatter_long: { format: unused(LINE_FORMAT, 'Python format of a line; see [log] format') },
} as const

export type LoggingConfig = ConfigOf<typeof loggingSchema>

/** What the log sections mean for createLog(). */
export function logSettings(config: LoggingConfig): LogSettings {
  const handler = handlerOf(config.logger_root.handlers) ?? 'logfile'
  const handlerLevel = config[`handler_${handler}`].level
  const format: LogFormat = config.log.format
  const common = { level: stricter(config.logger_root.level, handlerLevel), format }
  if (handler === 'stderr') return { ...common, destination: { kind: 'stderr' } }
  const { path, maxBytes, backupCount } = fileArguments(config)
  return { ...common, destination: { kind: 'file', path, maxBytes, backupCount } }
}

export interface LogFileArguments {
  readonly path: string
  readonly maxBytes: number
  readonly backupCount: number
}

/** The positional and named arguments of the rotating file handler, or undefined if malformed. */
export function readFileArguments(config: LoggingConfig): LogFileArguments | undefined {
  const args = parseLiteral(config.handler_logfile.args || '()')
  const kwargs = parseLiteral(config.handler_logfile.kwargs || '{}')
  if (!Array.isArray(args) || !(kwargs instanceof Map)) return undefined
  const [first, , second, third] = args // (filename, mode, maxBytes, backupCount)
  const path = first ?? kwargs.get('filename')
  const maxBytes = second ?? kwargs.get('maxBytes') ?? 0
  const backupCount = third ?? kwargs.get('backupCount') ?? 0
  if (typeof path !== 'string' || path === '') return undefined
  if (!isCount(maxBytes) || !isCount(backupCount)) return undefined
  return { path, maxBytes, backupCount }
}

function fileArguments(config: LoggingConfig): LogFileArguments {
  const found = readFileArguments(config)
  if (found === undefined) throw new TypeError('handler_logfile was not checked when loaded')
  return found
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function handlerOf(list: string): 'logfile' | 'stderr' | undefined {
  const names = list.split(',').map((name) => name.trim())
  if (names.includes('logfile')) return 'logfile'
  return names.includes('stderr') ? 'stderr' : undefined
}

function stricter(a: Level, b: Level): LogLevel {
  const rank = (one: Level): number => SEVERITY.indexOf(PINO_LEVELS[one])
  return PINO_LEVELS[rank(a) >= rank(b) ? a : b]
}
