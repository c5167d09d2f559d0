/**
 * What is known of the changes under a ticket, in a file: a process that is killed takes nothing of it
 * along. It is for the next process on this machine, so nothing is flushed; where the directory does not
 * outlive the machine, neither does what the kernel had not stored of the images.
 */
import { createHash } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Logger } from '../log.js'
import { ByteRanges, type Span } from './byte-ranges.js'

const HEADER = 'imageio-changes 2\n'
const EMPTY_FIRST = 'empty first\n'
const LOST = 'writes are lost\n'
/** Behind the name of a ticket's file, for one that was removed for good and was whole. */
const REMOVED = '.removed'
/** Written by one change after the other is told in pieces of so many bytes. */
const PIECE = 32 * 1024 * 1024
/** Bytes of a file that are worth to be written anew, as short as it can be. */
const MAX_LENGTH = 256 * 1024
/** Those of tickets that nobody has installed for so long are removed. */
const KEPT_MS = 7 * 24 * 3600 * 1000
/** And that one was removed for so long. */
const REMOVED_MS = 24 * 3600 * 1000

/** So many of tickets that are not installed. */
const MAX_KEPT = 5000

/** What is known of the changes under a ticket. */
export interface Recorded {
  /** Announced, and not written. */
  readonly announced: readonly Span[]
  /** Where bodies are written from whose size nobody knows. */
  readonly unsized: readonly number[]
  /** Where such a body was cut off. */
  readonly openEnds: readonly number[]
  /** The image has still to be emptied before the first change. */
  readonly mustEmpty: boolean
  /** What was written before may not be stored. */
  readonly isLost: boolean
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

  /**
   * That of a ticket; its file says nothing new before `renew`. Undefined when it cannot be kept, which is
   * logged.
   */
  open(id: string): Journal | undefined {
    const name = nameOf(id)
    const path = join(this.#dir, name)
    try {
      mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
      const journal = new Journal(path, read(path), (error) => this.#fail(path, error))
      this.#open.add(name)
      return journal
    } catch (error) {
      this.#fail(path, error)
      return undefined
    }
  }

  /** What the process before knew of a ticket that is not installed. */
  look(id: string): Recorded | undefined {
    try {
      return read(join(this.#dir, nameOf(id)))
    } catch (error) {
      this.#logger.error({ err: error }, 'recorded changes cannot be read')
      return undefined
    }
  }

  /** It was removed for good and nothing was missing: who asks has not got the answer. */
  isRemoved(id: string): boolean {
    return existsSync(join(this.#dir, nameOf(id) + REMOVED))
  }

  /** The ticket is gone for good. `isWhole`: nothing was missing, as who removed it wanted to know. */
  remove(id: string, isWhole: boolean): void {
    const name = nameOf(id)
    const path = join(this.#dir, name)
    this.#open.delete(name)
    try {
      if (!isWhole) rmSync(path + REMOVED, { force: true })
      else if (existsSync(path)) writeFileSync(path + REMOVED, '', { mode: 0o600 })
      rmSync(path, { force: true, recursive: true })
    } catch (error) {
      this.#logger.error(
        { err: error },
        'recorded changes of a ticket that is gone cannot be removed',
      )
    }
  }

  /** The ticket is gone, and may come back. */
  leave(id: string): void {
    this.#open.delete(nameOf(id))
  }

  /** `now` in milliseconds since 1970. */
  forgetOld(now = Date.now()): void {
    const left = namesIn(this.#dir)
      .filter((name) => !this.#open.has(name))
      .map((name) => {
        const path = join(this.#dir, name)
        const time = lstatSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now
        return { path, age: now - time, isRemoved: name.endsWith(REMOVED) }
      })
      .sort((one, other) => one.age - other.age)
    const removed = left.filter(({ isRemoved }) => isRemoved)
    const others = left.filter(({ isRemoved }) => !isRemoved)
    const old = [
      ...removed.filter(({ age }) => age > REMOVED_MS),
      ...others.filter(({ age }, index) => index >= MAX_KEPT || age > KEPT_MS),
    ]
    for (const { path } of old) {
      try {
        rmSync(path, { force: true, recursive: true })
      } catch {
        // It is tried again.
      }
    }
  }

  /** What is wrong in it would be worse than none. */
  #fail(path: string, error: unknown): void {
    this.#logger.error({ err: error }, 'changes cannot be recorded for a restart of this service')
    for (const file of [path, `${path}.new`]) {
      try {
        rmSync(file, { force: true, recursive: true })
      } catch {
        // It said so already.
      }
    }
  }
}

/** All that is kept in the directory, and that itself, for who gives it to another user. */
export function journalFiles(dir: string): string[] {
  return [dir, ...namesIn(dir).map((name) => join(dir, name))]
}

export class Journal {
  /** What a process before knew; undefined for a new ticket. */
  readonly found: Recorded | undefined
  readonly #path: string
  readonly #onFailure: (error: unknown) => void
  #fd: number | undefined
  /** Bytes since it was written anew. */
  #length = 0
  /** Bytes at its beginning, behind which nothing was announced; undefined when something was. */
  #base: number | undefined
  #isFailed = false
  /** Written, and not told yet. */
  #from = 0
  #to = 0

  constructor(path: string, found: Recorded | undefined, onFailure: (error: unknown) => void) {
    this.#path = path
    this.found = found
    this.#onFailure = onFailure
  }

  announce(offset: number, size: number): void {
    this.#tell()
    this.#append(`+${offset} ${size}\n`)
  }

  /** A body whose size nobody knows is written from here on. */
  announceUnsized(offset: number): void {
    this.#append(`?${offset}\n`)
  }

  /** Such a body was cut off here. */
  noteOpenEnd(offset: number): void {
    this.#append(`~${offset}\n`)
  }

  wrote(offset: number, size: number): void {
    if (offset !== this.#to) this.#tell()
    if (this.#from === this.#to) this.#from = offset
    this.#to = offset + size
    if (this.#to - this.#from >= PIECE) this.#tell()
  }

  /** A change has ended, and nothing is announced. For many small ones, one after the other. */
  clear(): boolean {
    const [fd, base] = [this.#fd, this.#base]
    if (fd === undefined || base === undefined) return false
    this.#from = this.#to = 0
    this.#try(() => ftruncateSync(fd, base))
    return true
  }

  /** A change has ended. True when the file has become so long that it is to be renewed. */
  settle(): boolean {
    this.#tell()
    return this.#length > MAX_LENGTH
  }

  /** This is so, and nothing else. At any moment the file says what it said or what it shall. */
  renew(recorded: Recorded): void {
    const { announced, unsized, openEnds } = recorded
    this.#from = this.#to = 0
    this.#try(() => {
      const begin = beginOf(recorded)
      const rest = [
        ...announced.map(({ start, end }) => `+${start} ${end - start}\n`),
        ...unsized.map((offset) => `?${offset}\n`),
        ...openEnds.map((offset) => `~${offset}\n`),
      ]
      const temporary = `${this.#path}.new`
      writeFileSync(temporary, begin + rest.join(''), { mode: 0o600 })
      renameSync(temporary, this.#path)
      if (this.#fd !== undefined) closeSync(this.#fd)
      this.#fd = undefined // should it not open
      this.#fd = openSync(this.#path, 'a')
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
      this.#fd ??= openSync(this.#path, 'a')
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

function beginOf({ mustEmpty, isLost }: Pick<Recorded, 'mustEmpty' | 'isLost'>): string {
  return HEADER + (mustEmpty ? EMPTY_FIRST : '') + (isLost ? LOST : '')
}

function nameOf(id: string): string {
  return createHash('sha256').update(id).digest('hex')
}

/**
 * Undefined when there is none, or it is anything else. A line without its end was being written when the
 * process ended: nothing had come of it yet.
 */
function read(path: string): Recorded | undefined {
  const text = readFile(path)
  if (text?.startsWith(HEADER) !== true) return undefined
  const mustEmpty = text.startsWith(HEADER + EMPTY_FIRST)
  const isLost = text.startsWith(beginOf({ mustEmpty, isLost: true }))
  const begin = beginOf({ mustEmpty, isLost })
  const announced = new ByteRanges()
  const unsized: number[] = []
  const openEnds: number[] = []
  for (const line of text.slice(begin.length).split('\n').slice(0, -1)) {
    const [, kind, offset, size] = /^([-+?~])(\d{1,16})(?: (\d{1,16}))?$/.exec(line) ?? []
    if (kind === undefined || (size === undefined) !== '?~'.includes(kind)) return undefined
    const at = Number(offset)
    if (kind === '+') announced.add(at, Number(size))
    else if (kind === '-') announced.remove(at, Number(size))
    else if (kind === '?') unsized.push(at)
    else openEnds.push(at)
  }
  return { announced: announced.spans(), unsized, openEnds, mustEmpty, isLost }
}

/** Of a regular file: nothing else is waited for. */
function readFile(path: string): string | undefined {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  let fd: number
  try {
    fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    return fstatSync(fd).isFile() ? readFileSync(fd, 'latin1') : undefined
  } finally {
    closeSync(fd)
  }
}
