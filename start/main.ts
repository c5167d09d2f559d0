/** npm start: serves images from this machine to try things out. README.md shows how. */
import { fileURLToPath } from 'node:url'
import { createLiveLine } from './live-line.js'
import { HELP, parseOptions, UsageError, type StartOptions } from './options.js'
import { serve } from './serve.js'
import { StartError } from './start-error.js'

const PARENT_POLL_MS = 500

const root = fileURLToPath(new URL('../..', import.meta.url))

// npm runs scripts in the checkout and says here where the user is.
const { npm_lifecycle_event, INIT_CWD } = process.env
const directory = npm_lifecycle_event === 'start' && INIT_CWD ? INIT_CWD : process.cwd()

const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => stop.abort())

// npm passes signals on, but cannot when it is killed with SIGKILL.
if (npm_lifecycle_event === 'start') {
  const npm = process.ppid
  setInterval(() => {
    if (process.ppid !== npm) stop.abort()
  }, PARENT_POLL_MS).unref()
}

// The reader of a pipe may have seen enough.
process.stdout.on('error', () => stop.abort())

function fail(error: unknown): 1 | 2 {
  if (!(error instanceof UsageError) && !(error instanceof StartError)) throw error
  const isUsage = error instanceof UsageError
  process.stderr.write(`imageio: ${error.message}${isUsage ? ' (see npm start -- --help)' : ''}\n`)
  return isUsage ? 2 : 1
}

async function main(): Promise<0 | 1 | 2> {
  try {
    const options = parseOptions(process.argv.slice(2), directory)
    if (options === 'help') process.stdout.write(HELP)
    else await serveImages(options)
    return 0
  } catch (error) {
    return fail(error)
  }
}

async function serveImages(options: StartOptions): Promise<void> {
  const { stdout, stderr } = process
  await serve(options, {
    root,
    signal: stop.signal,
    print: (text) => void stdout.write(text),
    printLog: (text) => void stderr.write(text),
    createLiveLine: () =>
      createLiveLine({
        // Between lines of a log nothing can be redrawn.
        isTerminal: stdout.isTTY && !options.isVerbose,
        // 0 is a terminal that does not know.
        columns: () => stdout.columns || 80,
        write: (text) => void stdout.write(text),
      }),
  })
}

process.exitCode = await main()
