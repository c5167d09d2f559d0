/** imageio-daemon: arguments, signals, exit codes. */
import { parseArgs } from 'node:util'
import { VERSION } from '../core/http/version.js'
import { DEFAULT_CONFIG_DIR } from '../core/config/load.js'
import { createLog, type Log } from '../core/log.js'
import { ready, stopping, watchdog } from '../core/systemd.js'
import { loadDaemonConfig, logSettings, showConfig, type DaemonConfig } from './config.js'
import { Daemon } from './daemon.js'
import { preflight } from './preflight.js'

const USAGE = `Usage: imageio-daemon [options]

Serves virtual machine disks to clients that hold a ticket.

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

async function main(): Promise<void> {
  const options = readOptions()
  if (options.help) {
    print(USAGE)
    return
  }
  if (options.version) {
    print(`imageio-daemon ${VERSION}\n`)
    return
  }
  const dir = options['conf-dir']
  const { config, warnings } = loadDaemonConfig(dir)
  if (options['show-config']) {
    print(showConfig(config))
    return
  }
  if (options['check-config']) {
    const found = await preflight(config)
    for (const warning of [...warnings, ...found.warnings]) {
      process.stderr.write(`warning: ${warning}\n`)
    }
    for (const problem of found.problems) process.stderr.write(`imageio-daemon: ${problem}\n`)
    if (found.problems.length === 0) print('configuration is good\n')
    else process.exitCode = 1
    return
  }
  const log = createLog(logSettings(config))
  for (const warning of warnings) log.logger.warn(warning)
  await serve(dir, config, log, options.ticket)
}

async function serve(
  dir: string,
  config: DaemonConfig,
  log: Log,
  ticketFile: string | undefined,
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

  let daemon: Daemon
  try {
    daemon = await Daemon.start({ config, logger, logFiles: log.files, ticketFile })
  } catch (error) {
    logger.fatal({ err: error }, 'cannot start')
    await log.close()
    throw error
  }
  process.on('SIGHUP', () => reload(dir, daemon, log))
  const endWatchdog = config.daemon.systemd_enable ? watchdog() : () => undefined
  if (config.daemon.systemd_enable) ready()
  logger.info('ready')

  const signal = await stopped.promise
  logger.info({ signal }, 'stopping')
  if (config.daemon.systemd_enable) stopping()
  await daemon.stop()
  endWatchdog()
  logger.info('stopped')
  await log.close()
  process.exit(0)
}

/** What is wrong keeps the old state: a typing error must not take the service down. */
function reload(dir: string, daemon: Daemon, log: Log): void {
  try {
    const { config, warnings } = loadDaemonConfig(dir)
    for (const warning of warnings) log.logger.warn(warning)
    log.setLevel(logSettings(config).level)
    log.reopen()
    daemon.reload(config)
  } catch (error) {
    log.logger.error({ err: error }, 'cannot reload, going on as before')
  }
}

function readOptions(): ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values'] {
  try {
    return parseArgs({ options: OPTIONS }).values
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    process.stderr.write(`imageio-daemon: ${reason}\nTry imageio-daemon --help.\n`)
    process.exit(2)
  }
}

function print(text: string): void {
  process.stdout.write(text)
}

main().catch((error: unknown) => {
  const reason = error instanceof Error ? error.message : String(error)
  process.stderr.write(`imageio-daemon: ${reason}\n`)
  process.exitCode = 1
})
