/**
 * The log: pino over a rotating file or standard error. Lines carry an ISO time and the level as a
 * word. Ticket ids are secrets, so they appear only through shortId().
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { isatty } from 'node:tty'
import { pino } from 'pino'
import type * as Pretty from 'pino-pretty'
import { createStream, type RotatingFileStream } from 'rotating-file-stream'
import { MiB } from './units.js'

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
  /** Every path the log is or was written to; privileges.ts hands them over. */
  readonly files: readonly string[]
  /** Applies to the logger and to its children, except those made with a level of their own. */
  setLevel(level: LogLevel): void
  /** Opens the file again, for those who move it away themselves. */
  reopen(): void
  /** Resolves when every line is in the file. */
  close(): Promise<void>
}

interface Sink {
  readonly files: readonly string[]
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
    files: sink.files,
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
  // Loaded when it is wanted: a tenth of what a server without it loads.
  const { prettyFactory } = createRequire(import.meta.url)('pino-pretty') as typeof Pretty
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
    files: [],
    write: (line) => void stream.write(line),
    reopen: () => undefined,
    close: () => {
      stream.flushSync()
      return Promise.resolve()
    },
  }
}

type FileDestination = Extract<LogDestination, { kind: 'file' }>

/** After a failed write lines go to standard error for this long before the file is tried again. */
const RETRY_MS = 10_000

/** Lines waiting for a storage that hangs; what comes then is dropped and counted. */
const MAX_WAITING_BYTES = 16 * MiB

class FileSink implements Sink {
  readonly files: readonly string[]
  readonly #destination: FileDestination
  #stream: RotatingFileStream | undefined
  #failedAt = 0
  #dropped = 0

  constructor(destination: FileDestination) {
    const { path, backupCount } = destination
    this.#destination = destination
    this.files = [
      path,
      ...Array.from({ length: backupCount }, (_, index) => `${path}.${index + 1}`),
    ]
    checkWritable(path)
    this.#stream = this.#open()
  }

  write(line: string): void {
    if (this.#stream === undefined && Date.now() - this.#failedAt >= RETRY_MS) this.reopen()
    const stream = this.#stream
    if (stream === undefined) {
      writeStderr(line)
      return
    }
    if (stream.writableLength > MAX_WAITING_BYTES) {
      this.#dropped++
      return
    }
    if (this.#dropped > 0) {
      writeStderr(`log file ${this.#destination.path}: too slow, ${this.#dropped} lines dropped\n`)
      this.#dropped = 0
    }
    stream.write(line)
  }

  reopen(): void {
    this.#stream?.end()
    this.#stream = this.#open()
  }

  async close(): Promise<void> {
    const stream = this.#stream
    this.#stream = undefined
    this.#failedAt = Infinity // from now on standard error
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
    const stream = createStream(path, { mode: FILE_MODE, ...rotation })
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

/** The group may read: administrators, log collectors. */
const FILE_MODE = 0o640

/** Fails at start and by name, instead of at the first line and in the background. */
function checkWritable(path: string): void {
  const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants
  try {
    // Not blocking: a FIFO without a reader is refused instead of waited for.
    const fd = openSync(path, O_APPEND | O_CREAT | O_NONBLOCK | O_WRONLY, FILE_MODE)
    const isFile = fstatSync(fd).isFile()
    closeSync(fd)
    if (!isFile) throw new Error('not a regular file')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`cannot write the log file ${path}: ${reason}`, { cause })
  }
}

function writeStderr(text: string): void {
  try {
    writeSync(2, text)
  } catch {
    // Standard error is gone as well; serving goes on.
  }
}
