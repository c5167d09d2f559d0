/** imageioctl: arguments, streams and exit status; docs/imageioctl.md. */
import { run } from './run.js'

// Arguments hold ticket ids, which are secrets, and every user can list processes.
process.title = 'imageioctl'

// The reader of a pipe may have seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

process.exitCode = await run(process.argv.slice(2), {
  stdin: process.stdin,
  print: (text) => void process.stdout.write(text),
  printError: (text) => void process.stderr.write(text),
})
