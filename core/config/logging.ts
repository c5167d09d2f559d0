/**
 * The log sections of existing configuration files: a fixed subset of Python's logging file format.
 * Only what they say about destination and level is used; lines have the daemon's own format.
 */
import { isAbsolute } from 'node:path'
import type { LogLevel, LogSettings } from '../log.js'
import { MiB } from '../units.js'
import { parseLiteral } from './literal.js'
import type { Report } from './load.js'
import { choice, integer, string, type ConfigOf } from './schema.js'

/** Python's names, least severe first, and what they are called here. */
const LEVELS = {
  NOTSET: 'debug',
  DEBUG: 'debug',
  INFO: 'info',
  WARNING: 'warn',
  WARN: 'warn',
  ERROR: 'error',
  CRITICAL: 'fatal',
  FATAL: 'fatal',
} as const satisfies Record<string, LogLevel>
type Level = keyof typeof LEVELS
const LEVEL_NAMES = Object.keys(LEVELS) as Level[]

const DEFAULT_ROTATION = { maxBytes: 20 * MiB, backupCount: 10 }
const DEFAULT_ARGS = '("/var/log/ovirt-imageio/daemon.log",)'
const DEFAULT_KWARGS = `{"maxBytes": ${DEFAULT_ROTATION.maxBytes}, "backupCount": ${DEFAULT_ROTATION.backupCount}}`
const LINE_FORMAT = '%(asctime)s %(levelname)-7s (%(threadName)s) [%(name)s] %(message)s'

const level = (value: Level, description: string) =>
  choice({ of: LEVEL_NAMES, default: value, description })
const unused = (value: string, what: string) =>
  string({ default: value, description: `${what}. Accepted and not used.` })
const literal = (value: string, description: string) =>
  string({
    default: value,
    description,
    allowed: 'a Python literal of strings, integers, tuples and dicts',
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
      description:
        'Must list the handler that [logger_root] handlers chooses, or a warning says so.',
    }),
  },
  formatters: { keys: unused('long', 'Names of the formatters; there is one, long') },
  logger_root: {
    level: level('INFO', 'Least severe level that is logged. DEBUG logs every request.'),
    handlers: string({
      default: 'logfile',
      allowed: 'logfile or stderr',
      accept: (text) => handlerOf(text) !== undefined,
      description: 'The one in use: logfile or stderr. With both, logfile, and a warning.',
    }),
    propagate: integer({ default: 0, description: 'Accepted and not used: root has no parent.' }),
  },
  handler_logfile: {
    class: string({
      default: 'logging.handlers.RotatingFileHandler',
      description: 'Of any other class only the file name is used, with a warning.',
    }),
    args: literal(
      DEFAULT_ARGS,
      'A tuple whose first item is the file name. The directory must exist.',
    ),
    kwargs: literal(
      DEFAULT_KWARGS,
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

/** What the log sections mean for createLog(); checkLogging() has passed. */
export function logSettings(config: LoggingConfig): LogSettings {
  const { logger_root, log } = config
  const handler = handlerOf(logger_root.handlers) ?? 'logfile'
  const level = stricter(logger_root.level, config[`handler_${handler}`].level)
  if (handler === 'stderr') return { level, format: log.format, destination: { kind: 'stderr' } }
  const file = fileArguments(config)
  if (file === undefined) throw new TypeError('[handler_logfile] was not checked')
  return { level, format: log.format, destination: { kind: 'file', ...file } }
}

/** Refuses a file handler that names no file, and warns of what the daemon does differently. */
export function checkLogging(config: LoggingConfig, { fail, warn }: Report): void {
  const { handlers, logger_root, handler_logfile } = config
  const handler = handlerOf(logger_root.handlers) ?? 'logfile'
  if (!names(handlers.keys).includes(handler)) {
    warn('handlers', 'keys', `does not list ${handler}, which [logger_root] handlers chooses`)
  }
  if (names(logger_root.handlers).length > 1) {
    warn('logger_root', 'handlers', `there is one destination, ${handler} is used`)
  }
  if (handler === 'stderr') return
  if (!isRotating(handler_logfile.class)) {
    warn('handler_logfile', 'class', 'not RotatingFileHandler, only the file name is used')
  }
  if (fileArguments(config) === undefined) {
    fail('handler_logfile', 'args', `with kwargs must be like ${DEFAULT_ARGS}, ${DEFAULT_KWARGS}`)
  }
}

interface FileArguments {
  readonly path: string
  readonly maxBytes: number
  readonly backupCount: number
}

/** The positional and named arguments of the file handler, or undefined if they make no sense. */
function fileArguments({ handler_logfile }: LoggingConfig): FileArguments | undefined {
  const args = parseLiteral(handler_logfile.args || '()')
  const kwargs = parseLiteral(handler_logfile.kwargs || '{}')
  if (!Array.isArray(args) || !(kwargs instanceof Map)) return undefined
  const path = args[0] ?? kwargs.get('filename')
  if (typeof path !== 'string' || !isAbsolute(path)) return undefined
  // The third and fourth argument mean something else to other classes.
  if (!isRotating(handler_logfile.class)) return { path, ...DEFAULT_ROTATION }
  const maxBytes = args[2] ?? kwargs.get('maxBytes') ?? 0
  const backupCount = args[3] ?? kwargs.get('backupCount') ?? 0
  return isCount(maxBytes) && isCount(backupCount) ? { path, maxBytes, backupCount } : undefined
}

function isRotating(className: string): boolean {
  return /^(logging\.)?(handlers\.)?RotatingFileHandler$/.test(className)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function names(list: string): string[] {
  return list.split(',').map((name) => name.trim())
}

function handlerOf(list: string): 'logfile' | 'stderr' | undefined {
  return (['logfile', 'stderr'] as const).find((name) => names(list).includes(name))
}

function stricter(a: Level, b: Level): LogLevel {
  return LEVELS[LEVEL_NAMES.indexOf(a) >= LEVEL_NAMES.indexOf(b) ? a : b]
}
