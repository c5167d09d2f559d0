/**
 * The log: pino over a rotating file or standard error. Lines carry an ISO time and the level as a
 * word. Ticket ids are secrets, so they appear only through shortId().
 */
import { accessSync, closeSync, constants, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { isatty } from 'node:tty'
import { pino } from 'pino'
import { prettyFactory } from 'pino-pretty'
import { createStream, type RotatingFileStream } from 'rotating-file-stream'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'
export type LogFormat = 'json' | 'pretty' | 'auto'

export type LogDestination =
  | { readonly kind: 'stderr' }
  | {
      readonly kind: 'file'
      readonly path: string
      /** 0: never rotated. */
      readonly maxBytes: number
      /** Old files kept; 0: never rotated. */
      readonly backupCount: number
    }

export interface LogSettings {
  readonly level: LogLevel
  readonly destination: LogDestination
  readonly format: LogFormat
}

export type Logger = pino.Logger

export interface Log {
  readonly logger: Logger
  /** Applies to the logger and to children made afterwards. */
  setLevel(level: LogLevel): void
  /** Opens the file again, for those who move it away themselves. */
  reopen(): void
  /** Resolves when every line is in the file. */
  close(): Promise<void>
}

interface Sink {
  write(line: string): void
  reopen(): void
  close(): Promise<void>
}

export function createLog(settings: LogSettings): Log {
  const { destination, level } = settings
  const sink = destination.kind === 'file' ? new FileSink(destination) : stderrSink()
  const write = isPretty(settings) ? prettyWriter(sink) : (line: string) => sink.write(line)
  const logger = pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write },
  )
  return {
    logger,
    setLevel: (value) => void (logger.level = value),
    reopen: () => sink.reopen(),
    close: () => sink.close(),
  }
}

/** How a ticket id is written in a log: enough to recognise, never more than a third of it. */
export function shortId(id: string): string {
  return `${id.slice(0, Math.min(8, Math.floor(id.length / 3)))}…`
}

function isPretty({ format, destination }: LogSettings): boolean {
  if (format !== 'auto') return format === 'pretty'
  return destination.kind === 'stderr' && isatty(2)
}

function prettyWriter(sink: Sink): (line: string) => void {
  const toText = prettyFactory({
    colorize: false,
    ignore: 'pid',
    singleLine: true,
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss,l',
  })
  return (line) => sink.write(toText(line))
}

/** Written synchronously: the last words before an exit are the ones somebody will look for. */
function stderrSink(): Sink {
  const stream = pino.destination({ fd: 2, sync: true })
  stream.on('error', () => undefined) // nobody reads, and there is nowhere left to say so
  return {
    write: (line) => void stream.write(line),
    reopen: () => undefined,
    close: () => {
      stream.flushSync()
      return Promise.resolve()
    },
  }
}

/** After a failed write lines go to standard error for this long before the file is tried again. */
const RETRY_MS = 10_000

class FileSink implements Sink {
  readonly #destination: LogDestination & { kind: 'file' }
  #stream: RotatingFileStream | undefined
  #failedAt = 0

  constructor(destination: LogDestination & { kind: 'file' }) {
    this.#destination = destination
    checkWritable(destination.path)
    this.#stream = this.#open()
  }

  write(line: string): void {
    if (this.#stream === undefined && Date.now() - this.#failedAt >= RETRY_MS) this.reopen()
    if (this.#stream === undefined) writeStderr(line)
    else this.#stream.write(line)
  }

  reopen(): void {
    this.#stream?.end()
    this.#stream = this.#open()
  }

  async close(): Promise<void> {
    const stream = this.#stream
    this.#stream = undefined
    this.#failedAt = Infinity
    if (stream === undefined) return
    await new Promise<void>((resolve) => {
      stream.once('error', () => resolve())
      stream.end(() => resolve())
    })
  }

  #open(): RotatingFileStream {
    const { path, maxBytes, backupCount } = this.#destination
    const isRotated = maxBytes > 0 && backupCount > 0
    const rotation = isRotated ? { rotate: backupCount, size: `${maxBytes}B` } : {}
    const stream = createStream(path, { mode: 0o640, ...rotation })
    stream.on('warning', (error) => writeStderr(`log file ${path}: ${error.message}\n`))
    stream.on('error', (error) => {
      writeStderr(`log file ${path}: ${error.message}\n`)
      if (this.#stream !== stream) return
      this.#stream = undefined
      this.#failedAt = Date.now()
    })
    return stream
  }
}

/** Fails at start and by name, instead of at the first line and in the background. */
function checkWritable(path: string): void {
  try {
    accessSync(dirname(path), constants.X_OK)
    closeSync(openSync(path, 'a', 0o640))
  } catch (cause) {
    throw new Error(`cannot write the log file ${path}: ${String(cause)}`, { cause })
  }
}

function writeStderr(text: string): void {
  try {
    writeSync(2, text)
  } catch {
    // Standard error is gone as well; serving goes on.
  }
}
