/**
 * What is known of the changes under a ticket, in a file: a process that is killed takes nothing of it
 * along. It is for the next process on this machine, so nothing is flushed; where the directory does not
 * outlive the machine, neither does what the kernel had not stored of the images.
 */
import { createHash } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../log.js'
import { ByteRanges, type Span } from './byte-ranges.js'

const HEADER = 'imageio-changes 1\n'
const EMPTY_FIRST = 'empty first\n'
/** Written by one change after the other is told in pieces of so many bytes. */
const PIECE = 32 * 1024 * 1024
/** Bytes of a file that are worth to be written anew, as short as it can be. */
const MAX_LENGTH = 256 * 1024
/** Those of tickets that nobody has installed for so long are removed. */
const KEPT_MS = 7 * 24 * 3600 * 1000

/** What a file of before says. */
export interface Found {
  /** Announced, and not written. */
  readonly announced: ByteRanges
  /** The image has still to be emptied before the first change. */
  readonly mustEmpty: boolean
}

/** The journals of all tickets. Names tell nothing about ids. */
export class Journals {
  readonly #dir: string
  readonly #logger: Logger
  readonly #open = new Set<string>()

  /** The directory is made when it is needed first. */
  constructor(dir: string, logger: Logger) {
    this.#dir = dir
    this.#logger = logger
  }

  /** That of a ticket, which exists from now on. Undefined when it cannot be kept, which is logged. */
  open(id: string, { mustEmpty }: { readonly mustEmpty: boolean }): Journal | undefined {
    const name = nameOf(id)
    const path = join(this.#dir, name)
    const onFailure = (error: unknown): void => this.#fail(path, error)
    try {
      mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
      const found = read(path)
      if (found === undefined) writeFileSync(path, beginOf(mustEmpty), { mode: 0o600 })
      this.#open.add(name)
      return new Journal(path, { found, mustEmpty }, onFailure)
    } catch (error) {
      this.#fail(path, error)
      return undefined
    }
  }

  /** What the process before knew of a ticket that is not installed. */
  look(id: string): Found | undefined {
    try {
      return read(join(this.#dir, nameOf(id)))
    } catch (error) {
      this.#logger.error({ err: error }, 'recorded changes cannot be read')
      return undefined
    }
  }

  /** Nothing is announced under the ticket any more. */
  remove(id: string): void {
    const name = nameOf(id)
    this.#open.delete(name)
    rmSync(join(this.#dir, name), { force: true })
  }

  /** The ticket is gone, and may come back. */
  leave(id: string): void {
    this.#open.delete(nameOf(id))
  }

  /** `now` in milliseconds since 1970. */
  forgetOld(now = Date.now()): void {
    for (const name of namesIn(this.#dir)) {
      const path = join(this.#dir, name)
      const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: now }
      if (!this.#open.has(name) && now - mtimeMs > KEPT_MS) rmSync(path, { force: true })
    }
  }

  /** What is wrong in it would be worse than none. */
  #fail(path: string, error: unknown): void {
    this.#logger.error({ err: error }, 'changes cannot be recorded for a restart of this service')
    try {
      rmSync(path, { force: true })
    } catch {
      // It said so already.
    }
  }
}

/** All that is kept in the directory, and that itself, for who gives it to another user. */
export function journalFiles(dir: string): string[] {
  return [dir, ...namesIn(dir).map((name) => join(dir, name))]
}

export class Journal {
  readonly #path: string
  readonly #onFailure: (error: unknown) => void
  readonly #found: Found | undefined
  #fd: number | undefined
  /** Bytes since it was written anew. */
  #length = 0
  /** Bytes at its beginning that announce nothing; undefined when it is not that simple. */
  #base: number | undefined
  #mustEmpty: boolean
  #isFailed = false
  /** Written, and not told yet. */
  #from = 0
  #to = 0

  constructor(
    path: string,
    { found, mustEmpty }: { readonly found: Found | undefined; readonly mustEmpty: boolean },
    onFailure: (error: unknown) => void,
  ) {
    this.#path = path
    this.#found = found
    this.#mustEmpty = found?.mustEmpty ?? mustEmpty
    this.#onFailure = onFailure
  }

  /** What a process before knew; undefined for a new ticket. */
  get found(): Found | undefined {
    return this.#found
  }

  get mustEmpty(): boolean {
    return this.#mustEmpty
  }

  noteEmptied(announced: readonly Span[]): void {
    this.#mustEmpty = false
    this.renew(announced)
  }

  announce(offset: number, size: number): void {
    this.#tell()
    this.#append(`+${offset} ${size}\n`)
  }

  wrote(offset: number, size: number): void {
    if (offset !== this.#to) this.#tell()
    if (this.#from === this.#to) this.#from = offset
    this.#to = offset + size
    if (this.#to - this.#from >= PIECE) this.#tell()
  }

  /** A change has ended, and nothing is announced. For many small ones, one after the other. */
  clear(): void {
    const [fd, base] = [this.#fd, this.#base]
    if (fd === undefined || base === undefined) {
      this.renew([])
      return
    }
    this.#from = this.#to = 0
    this.#try(() => ftruncateSync(fd, base))
  }

  /** A change has ended. True when the file has become so long that it is to be renewed. */
  settle(): boolean {
    this.#tell()
    return this.#length > MAX_LENGTH
  }

  /** This is announced, and nothing else. At any moment the file says what it said or what it shall. */
  renew(announced: readonly Span[]): void {
    this.#from = this.#to = 0
    this.#try(() => {
      const begin = beginOf(this.#mustEmpty)
      const rest = announced.map(({ start, end }) => `+${start} ${end - start}\n`)
      const temporary = `${this.#path}.new`
      writeFileSync(temporary, begin + rest.join(''), { mode: 0o600 })
      const fd = openSync(temporary, 'a')
      renameSync(temporary, this.#path)
      if (this.#fd !== undefined) closeSync(this.#fd)
      this.#fd = fd
      this.#base = rest.length === 0 ? begin.length : undefined
      this.#length = 0
    })
  }

  close(): void {
    this.#tell()
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
    this.#isFailed = true
  }

  #tell(): void {
    if (this.#to > this.#from) this.#append(`-${this.#from} ${this.#to - this.#from}\n`)
    this.#from = this.#to = 0
  }

  #append(text: string): void {
    this.#try(() => {
      this.#fd ??= openSync(this.#path, 'a', 0o600)
      writeSync(this.#fd, text)
      this.#length += text.length
    })
  }

  #try(work: () => void): void {
    if (this.#isFailed) return
    try {
      work()
    } catch (error) {
      this.#isFailed = true
      this.#onFailure(error)
    }
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return [] // nothing was ever recorded
  }
}

function beginOf(mustEmpty: boolean): string {
  return mustEmpty ? HEADER + EMPTY_FIRST : HEADER
}

function nameOf(id: string): string {
  return createHash('sha256').update(id).digest('hex')
}

/** A line without its end was being written when the process ended: nothing had come of it yet. */
function read(path: string): Found | undefined {
  let text: string
  try {
    text = readFileSync(path, 'latin1')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  if (!text.startsWith(HEADER)) return undefined
  const announced = new ByteRanges()
  const lines = text.slice(HEADER.length).split('\n').slice(0, -1)
  for (const line of lines) {
    const [offset = 0, size = 0] = line.slice(1).split(' ').map(Number)
    if (line.startsWith('+')) announced.add(offset, size)
    else if (line.startsWith('-')) announced.remove(offset, size)
  }
  return { announced, mustEmpty: text.startsWith(beginOf(true)) }
}
