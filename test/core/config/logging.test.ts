import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../../core/config/load.js'
import { checkLogging, loggingSchema, logSettings } from '../../../core/config/logging.js'
import type { LogSettings } from '../../../core/log.js'

function load(t: Test, text: string): { settings: LogSettings; warnings: readonly string[] } {
  const dir = t.testdir({ 'conf.d': { 'a.conf': text } })
  const vendorDir = join(dir, 'none')
  const { config, warnings } = loadConfig(loggingSchema, { dir, vendorDir, check: checkLogging })
  return { settings: logSettings(config), warnings }
}

const defaultFile = {
  kind: 'file',
  path: '/var/log/ovirt-imageio/daemon.log',
  maxBytes: 20 * 1024 * 1024,
  backupCount: 10,
} as const

t.test('the default is a rotating file at info', async (t) => {
  const { settings, warnings } = load(t, '')
  t.strictSame(settings, { level: 'info', format: 'auto', destination: defaultFile })
  t.strictSame(warnings, [])
})

t.test('both keys at stderr log to standard error', async (t) => {
  const text = '[handlers]\nkeys = stderr\n[logger_root]\nhandlers = stderr\nlevel = DEBUG\n'
  const { settings, warnings } = load(t, `${text}[handler_stderr]\nargs = (sys.stderr,)\n`)
  t.strictSame(settings, { level: 'debug', format: 'auto', destination: { kind: 'stderr' } })
  t.strictSame(warnings, [])
})

t.test('levels of logger and handler: the stricter one holds', async (t) => {
  const level = (logger: string, handler: string): string =>
    load(t, `[logger_root]\nlevel = ${logger}\n[handler_logfile]\nlevel = ${handler}\n`).settings
      .level
  t.equal(level('DEBUG', 'DEBUG'), 'debug')
  t.equal(level('NOTSET', 'NOTSET'), 'debug')
  t.equal(level('DEBUG', 'WARN'), 'warn')
  t.equal(level('warning', 'DEBUG'), 'warn')
  t.equal(level('ERROR', 'CRITICAL'), 'fatal')
  t.throws(() => level('VERBOSE', 'DEBUG'), { message: /a\.conf:2: \[logger_root\] level/ })
})

t.test('the level of the handler not in use does not count', async (t) => {
  t.equal(load(t, '[handler_stderr]\nlevel = ERROR\n').settings.level, 'info')
})

t.test('file name, size and number of old files', async (t) => {
  const file = (lines: string): unknown =>
    load(t, `[handler_logfile]\n${lines}\n`).settings.destination
  t.strictSame(file('args = ("/x.log",)'), { ...defaultFile, path: '/x.log' })
  t.strictSame(file("args = ('/x.log', 'a', 5 * 1024, 3)\nkwargs ="), {
    kind: 'file',
    path: '/x.log',
    maxBytes: 5120,
    backupCount: 3,
  })
  t.strictSame(file('args = ()\nkwargs = {"filename": "/y.log"}'), {
    kind: 'file',
    path: '/y.log',
    maxBytes: 0,
    backupCount: 0,
  })
  t.match(file('class = handlers.RotatingFileHandler\nkwargs = {"maxBytes": 7}'), { maxBytes: 7 })
})

t.test('arguments that make no sense are refused by name', async (t) => {
  const refused = (line: string, message: RegExp): void => {
    t.throws(() => load(t, `[handler_logfile]\n${line}\n`), { code: 'ERR_CONFIG', message }, line)
  }
  refused('args = (open("/x"),)', /a\.conf:2: \[handler_logfile\] args: must be a Python literal/)
  const place = /a\.conf:2: \[handler_logfile\] args: with kwargs must be like \("\/var/
  for (const args of ['"/x"', '("x.log",)', '("",)', '()', '(1,)', '("/x", "a", -1)']) {
    refused(`args = ${args}`, place)
  }
  refused('kwargs = {"maxBytes": "20M"}', /\[handler_logfile\] args: with kwargs must be like/)
  refused('kwargs = ()', /\[handler_logfile\] args: with kwargs must be like/)
})

t.test('of another handler class only the file name is used, with a warning', async (t) => {
  const { settings, warnings } = load(
    t,
    '[handler_logfile]\nclass = handlers.TimedRotatingFileHandler\nargs = ("/x.log", "D", 1, 7)\n',
  )
  t.strictSame(settings.destination, { ...defaultFile, path: '/x.log' })
  t.match(warnings, [/a\.conf:2: \[handler_logfile\] class: not RotatingFileHandler/])
})

t.test('handlers that contradict each other are warned of', async (t) => {
  const half = load(t, '[handlers]\nkeys = stderr\n')
  t.equal(half.settings.destination.kind, 'file')
  t.match(half.warnings, [/a\.conf:2: \[handlers\] keys: does not list logfile/])
  const both = load(
    t,
    '[handlers]\nkeys = logfile,stderr\n[logger_root]\nhandlers = stderr, logfile\n',
  )
  t.equal(both.settings.destination.kind, 'file')
  t.match(both.warnings, [/a\.conf:4: \[logger_root\] handlers: there is one destination/])
  t.equal(both.warnings.length, 1)
  t.throws(() => load(t, '[logger_root]\nhandlers = syslog\n'), { message: /logfile or stderr/ })
})

t.test('loggers and handlers that cannot be configured are warned of', async (t) => {
  const { warnings } = load(t, '[logger_http]\nlevel = DEBUG\nqualname = http\n')
  t.match(warnings, [/\[logger_http\] level: unknown section/, /\[logger_http\] qualname/])
})

t.test('[log] format is json, pretty or auto', async (t) => {
  t.equal(load(t, '[log]\nformat = JSON\n').settings.format, 'json')
  t.equal(load(t, '[log]\nformat = pretty\n').settings.format, 'pretty')
  t.throws(() => load(t, '[log]\nformat = xml\n'), { message: /one of auto, json, pretty/ })
})
