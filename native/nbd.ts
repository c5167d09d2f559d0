/**
 * The door to threads that move the data of NBD exports between sockets and Buffers, past JavaScript
 * (docs/transport.md). They know how a reply begins and where data belong; whatever else a server says
 * comes here as the bytes it is.
 *
 * Memory given to read() or send() belongs to the threads until its callback, or until cut() returns.
 */
import { availableParallelism } from 'node:os'
import { addon, type NbdDoor } from './addon.js'

/** How replies look; the numbers are those of native/src/nbd/reply_stream.h. */
const DIALECTS = { simple: 0, structured: 1, extended: 2 } as const

/** As the front's: more than that many cores are left to others. */
const MAX_THREADS = 8

export interface ReplyFormat {
  readonly dialect: keyof typeof DIALECTS
  /** Of the cookies of all requests. */
  readonly cookieHigh: number
}

/** In the order in which the server said it. */
export interface LinkHandlers {
  /** Of replies other than to read(), and of its errors. */
  readonly bytes: (bytes: Buffer) => void
  /** All data of the read have come, or all that come: then the bytes of an error came before. */
  readonly finished: (cookie: number) => void
  /** The server broke the protocol, and how. The last that is told. */
  readonly broken: (violation: string) => void
  /** The last that is told: an errno, or 0 when the server has closed its side. */
  readonly lost: (errno: number) => void
}

/** As native/src/nbd/event.h. */
const EVENTS = ['finished', 'sent', 'bytes', 'broken', 'lost'] as const

/** The threads, from the first link on. They end with the process. */
export class NbdMover {
  #door: NbdDoor | undefined
  readonly #links = new Map<number, NbdLink>()

  /**
   * The connection to an export from now on: of the socket's descriptor it takes a twin. The socket
   * must not be read any more, and its own descriptor is closed by its owner. Throws SystemError.
   */
  take(fd: number, { dialect, cookieHigh }: ReplyFormat, handlers: LinkHandlers): NbdLink {
    this.#door ??= new addon.NbdDoor(this.#onEvent, Math.min(MAX_THREADS, availableParallelism()))
    const id = this.#door.take(fd, DIALECTS[dialect], cookieHigh)
    const link = new NbdLink(this.#door, id, handlers, () => this.#links.delete(id))
    this.#links.set(id, link)
    return link
  }

  readonly #onEvent = (
    kind: number,
    id: number,
    value: number,
    content: Buffer | string | undefined,
  ): void => {
    const event = EVENTS[kind]
    const link = this.#links.get(id)
    if (event === 'finished') link?.finished(value)
    else if (event === 'sent') link?.sent(value)
    else if (event === 'bytes') link?.handlers.bytes(content as Buffer)
    else if (event === 'broken') link?.handlers.broken(content as string)
    else if (event === 'lost') link?.handlers.lost(value)
  }
}

interface Sending {
  readonly payload: Buffer | undefined
  readonly onSent: (() => void) | undefined
}

export class NbdLink {
  readonly handlers: LinkHandlers
  readonly #door: NbdDoor
  readonly #id: number
  readonly #forget: () => void
  /** They keep the memory reachable, by cookie. */
  readonly #targets = new Map<number, Buffer>()
  readonly #sending = new Map<number, Sending>()
  #isCut = false

  constructor(door: NbdDoor, id: number, handlers: LinkHandlers, forget: () => void) {
    this.#door = door
    this.#id = id
    this.handlers = handlers
    this.#forget = forget
  }

  /** Sends the header of a read, whose data are to fill the target: what lies at `offset`. */
  read(header: Buffer, cookie: number, offset: number, target: Buffer): void {
    if (this.#isCut) return
    this.#targets.set(cookie, target)
    this.#door.read(this.#id, header, cookie, offset, target)
  }

  /** `onSent` is called when all of it is the kernel's, or never when the link is lost. */
  send(header: Buffer, cookie: number, payload?: Buffer, onSent?: () => void): void {
    if (this.#isCut) return
    this.#sending.set(cookie, { payload, onSent })
    this.#door.send(this.#id, header, cookie, payload)
  }

  /** The reply to a read was an error, to the last byte. */
  forget(cookie: number): void {
    this.#targets.delete(cookie)
  }

  /** Closes the connection. When this returns nobody's memory is touched any more. */
  cut(): void {
    if (this.#isCut) return
    this.#isCut = true
    this.#forget()
    this.#door.cut(this.#id)
    this.#targets.clear()
    this.#sending.clear()
  }

  finished(cookie: number): void {
    this.#targets.delete(cookie)
    this.handlers.finished(cookie)
  }

  sent(cookie: number): void {
    const { onSent } = this.#sending.get(cookie) ?? {}
    this.#sending.delete(cookie)
    onSent?.()
  }
}
