/** What the mains of all servers do: arguments, signals, exit codes. */
import { parseArgs } from 'node:util'
import { VERSION } from '../http/version.js'
import { DEFAULT_CONFIG_DIR, type LoadedConfig } from '../config/load.js'
import { createLog, type Log } from '../log.js'
import { ready, stopping, watchdog } from '../systemd.js'
import { logSettings } from '../config/logging.js'
import { showConfig } from '../config/server.js'
import { preflight, type CheckedConfig } from './preflight.js'
import type { StartOptions } from './server.js'

export interface Program<C extends CheckedConfig> {
  readonly name: string
  /** One line: what it does. */
  readonly purpose: string
  /** Throws ConfigError. */
  readonly load: (dir: string) => LoadedConfig<C>
  /** What else --check-config finds, one line each: keeps the program from starting. */
  readonly problems?: (config: C) => readonly string[]
  /** Resolves when it serves. */
  readonly start: (options: StartOptions<C>) => Promise<RunningServer<C>>
}

export interface RunningServer<C> {
  /** SIGHUP, besides log level and log file. Throws when something cannot be used. */
  reload(config: C): void
  stop(): Promise<void>
}

const usage = (name: string, purpose: string): string => `Usage: ${name} [options]

${purpose}

Options:
  -c, --conf-dir DIR  directory of conf.d (default: ${DEFAULT_CONFIG_DIR})
      --show-config   print the effective configuration as JSON and exit
      --check-config  check configuration, and what it needs of this host, and exit
  -t, --ticket FILE   start with the ticket in FILE (JSON)
      --version       print the version and exit
  -h, --help          print this and exit

Signals: TERM and INT end running requests for a while ([daemon] shutdown_timeout), a second one
ends at once. HUP reads certificates and log level again and reopens the log file.
Exit status: 0 after an orderly stop, 1 on failure, 2 on wrong usage.
`

const OPTIONS = {
  'conf-dir': { type: 'string', short: 'c', default: DEFAULT_CONFIG_DIR },
  'show-config': { type: 'boolean', default: false },
  'check-config': { type: 'boolean', default: false },
  ticket: { type: 'string', short: 't' },
  version: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

/** Runs the program. All else is the process's: exit status, output, signals. */
export function run<C extends CheckedConfig>(program: Program<C>): void {
  main(program).catch((error: unknown) => {
    process.stderr.write(`${program.name}: ${reasonOf(error)}\n`)
    process.exitCode = 1
  })
}

async function main<C extends CheckedConfig>(program: Program<C>): Promise<void> {
  const { name, purpose, load } = program
  const options = readOptions(name)
  if (options.help) {
    print(usage(name, purpose))
    return
  }
  if (options.version) {
    print(`${name} ${VERSION}\n`)
    return
  }
  const dir = options['conf-dir']
  const { config, warnings } = load(dir)
  if (options['show-config']) {
    print(showConfig(config))
    return
  }
  if (options['check-config']) {
    await checkConfig(program, config, warnings)
    return
  }
  const log = createLog(logSettings(config))
  for (const warning of warnings) log.logger.warn(warning)
  await serve(program, { dir, config, log, ticketFile: options.ticket })
}

async function checkConfig<C extends CheckedConfig>(
  { name, problems: findMore = () => [] }: Program<C>,
  config: C,
  warnings: readonly string[],
): Promise<void> {
  const found = await preflight(config)
  const problems = [...found.problems, ...findMore(config)]
  for (const warning of [...warnings, ...found.warnings]) {
    process.stderr.write(`warning: ${warning}\n`)
  }
  for (const problem of problems) process.stderr.write(`${name}: ${problem}\n`)
  if (problems.length === 0) print('configuration is good\n')
  else process.exitCode = 1
}

interface Serving<C> {
  readonly dir: string
  readonly config: C
  readonly log: Log
  readonly ticketFile: string | undefined
}

async function serve<C extends CheckedConfig>(
  program: Program<C>,
  { dir, config, log, ticketFile }: Serving<C>,
): Promise<void> {
  const { logger } = log
  const crash = (error: unknown): void => {
    logger.fatal({ err: error }, 'unexpected failure')
    process.exitCode = 1
    void log.close().finally(() => process.exit(1))
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)

  const stopped = Promise.withResolvers<NodeJS.Signals>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (isStopping) process.exit(0)
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

  const signal = await stopped.promise
  logger.info({ signal }, 'stopping')
  if (config.daemon.systemd_enable) stopping()
  await server.stop()
  endWatchdog()
  logger.info('stopped')
  await log.close()
  process.exit(0)
}

/** What is wrong keeps the old state: a typing error must not take the service down. */
function reload<C extends CheckedConfig>(
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
    process.stderr.write(`${name}: ${reasonOf(error)}\nTry ${name} --help.\n`)
    process.exit(2)
  }
}

function print(text: string): void {
  process.stdout.write(text)
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
