/** What the mains of all servers do: arguments, signals, exit codes. */
import { flushCompileCache } from 'node:module'
import { parseArgs } from 'node:util'
import { exit } from '../../native/index.js'
import { VERSION } from '../http/version.js'
import { ConfigError } from '../config/config-error.js'
import { DEFAULT_CONFIG_DIR, type LoadedConfig } from '../config/load.js'
import { createLog, type Log } from '../log.js'
import { ready, stopping, watchdog } from '../systemd.js'
import { logSettings, type LoggingConfig } from '../config/logging.js'
import type { Schema } from '../config/schema.js'
import { showConfig } from '../config/server.js'
import { showOptions } from '../config/show-options.js'
import type { Preflight } from './host-checks.js'
import type { StartOptions } from './server.js'

/** What the process itself looks at. */
export type ProcessConfig = LoggingConfig & {
  readonly daemon: { readonly systemd_enable: boolean }
}

export interface Program<C extends ProcessConfig> {
  readonly name: string
  /** One line: what it does. */
  readonly purpose: string
  /** It can be started with a ticket. */
  readonly takesTicket: boolean
  /** More of --help: lines behind the first. */
  readonly usage?: string
  /** Its own directory of conf.d, where it is not the daemon's. */
  readonly confDir?: string
  /** More of --help: who gives another directory. */
  readonly confDirHint?: string
  /** All options there are. */
  readonly schema: Schema
  /** Throws ConfigError. */
  readonly load: (dir: string) => LoadedConfig<C>
  /** What --check-config finds. */
  readonly preflight: (config: C) => Promise<Preflight>
  /** What else it finds, one line each: keeps the program from starting. */
  readonly problems?: (config: C) => readonly string[]
  /** Resolves when it serves. */
  readonly start: (options: StartOptions<C>) => Promise<RunningServer<C>>
}

export interface RunningServer<C> {
  /** SIGHUP, besides log level and log file. Throws when something cannot be used. */
  reload(config: C): void
  stop(): Promise<void>
  /** Rejects when it can do no more of its work, though it runs: the process ends with status 1. */
  readonly failed?: Promise<never>
}

const TICKET_USAGE = `
  -t, --ticket FILE   start with the ticket in FILE (JSON)`

type Described = Pick<
  Program<ProcessConfig>,
  'name' | 'purpose' | 'usage' | 'confDir' | 'confDirHint' | 'takesTicket'
>

const help = ({
  name,
  purpose,
  usage = '',
  confDir = DEFAULT_CONFIG_DIR,
  confDirHint = '',
  takesTicket,
}: Described): string => `\
Usage: ${name} [options]
${usage}
${purpose}

Options:
  -c, --conf-dir DIR  directory of conf.d (default: ${confDir})${confDirHint}
      --show-config   print the effective configuration as JSON and exit
      --show-options  print every option, its default, what is allowed and what it does, and exit
      --check-config  check configuration, and what it needs of this host, and exit${takesTicket ? TICKET_USAGE : ''}
      --version       print the version and exit
  -h, --help          print this and exit

Signals: TERM and INT end running requests for a while ([daemon] shutdown_timeout), a second one
ends at once. HUP reads certificates and log level again and reopens the log file.
Exit status: 0 after an orderly stop, 1 on failure, 2 on wrong usage.
`

const OPTIONS = {
  'conf-dir': { type: 'string', short: 'c' },
  'show-config': { type: 'boolean', default: false },
  'show-options': { type: 'boolean', default: false },
  'check-config': { type: 'boolean', default: false },
  ticket: { type: 'string', short: 't' },
  version: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

/** Runs the program. All else is the process's: exit status, output, signals. */
export function run<C extends ProcessConfig>(program: Program<C>): void {
  main(program).catch((error: unknown) => {
    for (const problem of problemsOf(error)) complain(program.name, problem)
    process.exitCode = 1
  })
}

async function main<C extends ProcessConfig>(program: Program<C>): Promise<void> {
  const { name, load, takesTicket } = program
  const options = readOptions(name)
  if (!takesTicket && options.ticket !== undefined) refuseArguments(name, 'it takes no ticket')
  if (options.help) {
    print(help(program))
    return
  }
  if (options.version) {
    print(`${name} ${VERSION}\n`)
    return
  }
  if (options['show-options']) {
    print(showOptions(program.schema))
    return
  }
  const dir = options['conf-dir'] ?? program.confDir ?? DEFAULT_CONFIG_DIR
  if (options['check-config']) {
    await checkConfig(program, dir)
    return
  }
  const { config, shown, warnings } = load(dir)
  if (options['show-config']) {
    print(showConfig(shown))
    return
  }
  const log = createLog(logSettings(config))
  for (const warning of warnings) log.logger.warn(warning)
  await serve(program, { dir, config, log, ticketFile: options.ticket })
}

/** All that can be found at once, also of a configuration that is wrong in places. */
async function checkConfig<C extends ProcessConfig>(
  program: Program<C>,
  dir: string,
): Promise<void> {
  const { problems, warnings } = await findings(program, dir)
  for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`)
  for (const problem of problems) complain(program.name, problem)
  if (problems.length === 0) print('configuration is good\n')
  else process.exitCode = 1
}

async function findings<C extends ProcessConfig>(
  { load, preflight, problems: findMore = () => [] }: Program<C>,
  dir: string,
): Promise<Preflight> {
  try {
    const { config, warnings } = load(dir)
    const found = await preflight(config)
    return {
      problems: [...found.problems, ...findMore(config)],
      warnings: [...warnings, ...found.warnings],
    }
  } catch (error) {
    if (!(error instanceof ConfigError) || error.findings === undefined) throw error
    const { problems, warnings, wrong, config } = error.findings
    // What it says of a default that stands in for something else is of no use.
    const isOfUse = (text: string): boolean => ![...wrong].some((name) => isAbout(name, text))
    const none: Preflight = { problems: [], warnings: [] }
    const more = await preflight(config as C).catch(() => none)
    return {
      problems: [...problems, ...more.problems.filter(isOfUse)],
      warnings: [...warnings, ...more.warnings.filter(isOfUse)],
    }
  }
}

/** Of this option, or of its section as a whole. */
function isAbout(option: string, text: string): boolean {
  const [section = ''] = option.split(' ')
  return text.startsWith(`${option}:`) || /^(\[\w+\]):? (?!\w+:)/.exec(text)?.[1] === section
}

interface Serving<C> {
  readonly dir: string
  readonly config: C
  readonly log: Log
  readonly ticketFile: string | undefined
}

async function serve<C extends ProcessConfig>(
  program: Program<C>,
  { dir, config, log, ticketFile }: Serving<C>,
): Promise<void> {
  const { logger } = log
  const crash = (error: unknown): void => {
    logger.fatal({ err: error }, 'unexpected failure')
    process.exitCode = 1
    void log.close().finally(() => exit(1))
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)

  const stopped = Promise.withResolvers<NodeJS.Signals>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (isStopping) exit(0)
      isStopping = true
      stopped.resolve(signal)
    })
  }
  let isStopping = false

  let server: RunningServer<C>
  try {
    server = await program.start({ config, logger, logFiles: log.files, ticketFile })
  } catch (error) {
    logger.fatal({ err: error }, 'cannot start')
    await log.close()
    throw error
  }
  process.on('SIGHUP', () => reload(() => program.load(dir), server, log))
  const endWatchdog = config.daemon.systemd_enable ? watchdog() : () => undefined
  if (config.daemon.systemd_enable) ready()
  logger.info('ready')

  let status = 0
  try {
    const signal = await Promise.race([stopped.promise, ...(server.failed ? [server.failed] : [])])
    logger.info({ signal }, 'stopping')
  } catch (error) {
    logger.fatal({ err: error }, 'cannot go on')
    status = 1
  }
  if (config.daemon.systemd_enable) stopping()
  await server.stop()
  endWatchdog()
  logger.info('stopped')
  await log.close()
  flushCompileCache() // of NODE_COMPILE_CACHE, which Node writes at its end otherwise
  exit(status)
}

/** What is wrong keeps the old state: a typing error must not take the service down. */
function reload<C extends ProcessConfig>(
  load: () => LoadedConfig<C>,
  server: RunningServer<C>,
  log: Log,
): void {
  try {
    const { config, warnings } = load()
    for (const warning of warnings) log.logger.warn(warning)
    log.setLevel(logSettings(config).level)
    log.reopen()
    server.reload(config)
  } catch (error) {
    log.logger.error({ err: error }, 'cannot reload, going on as before')
  }
}

function readOptions(
  name: string,
): ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'] {
  try {
    return parseArgs({ options: OPTIONS }).values
  } catch (error) {
    refuseArguments(name, reasonOf(error))
  }
}

function refuseArguments(name: string, reason: string): never {
  complain(name, `${reason}\nTry ${name} --help.`)
  process.exit(2)
}

function complain(name: string, problem: string): void {
  process.stderr.write(`${name}: ${problem}\n`)
}

/** Of a configuration there may be many. */
function problemsOf(error: unknown): readonly string[] {
  const findings = error instanceof ConfigError ? error.findings : undefined
  return findings?.problems ?? [reasonOf(error)]
}

function print(text: string): void {
  process.stdout.write(text)
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
