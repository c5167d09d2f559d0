/**
 * The stream of replies, taken apart: finds the request of each, checks every number against it, and
 * has data put straight into its buffer. Throws NbdProtocolError at the first thing that is wrong.
 */
import type { ByteFeed } from './byte-feed.js'
import { NbdServerError } from './errors.js'
import { broken, decodeErrorChunk, type Dialect } from './messages.js'
import {
  Chunk,
  CHUNK_DONE,
  CHUNK_IS_ERROR,
  Command,
  EXTENDED_REPLY_MAGIC,
  MAX_NAME,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.js'
import type { PendingRequest } from './pending-request.js'
import { StatusList } from './status-list.js'

export interface RepliesOptions {
  readonly dialect: Dialect
  /** The request that has this cookie, undefined when none does. */
  readonly find: (cookieHigh: number, cookieLow: number) => PendingRequest | undefined
  /** The request is complete; no reply may name it any more. */
  readonly finish: (request: PendingRequest) => void
}

const MAX_ERROR = 6 + MAX_NAME + 8

export class Replies {
  readonly #feed: ByteFeed
  readonly #options: RepliesOptions
  readonly #isExtended: boolean
  readonly #head: Buffer
  readonly #length = Buffer.alloc(4)
  readonly #place = Buffer.alloc(12)

  constructor(feed: ByteFeed, options: RepliesOptions) {
    this.#feed = feed
    this.#options = options
    this.#isExtended = options.dialect === 'extended'
    this.#head = Buffer.alloc(this.#isExtended ? 32 : 16)
  }

  /** Waits for the next reply, and so on. */
  readonly start = (): void => {
    this.#feed.expect(this.#head, () => this.#reply())
  }

  #reply(): void {
    const head = this.#head
    const kind = REPLY_KINDS.get(head.readUInt32BE(0))
    if (kind === undefined) throw broken('a reply with a wrong magic')
    const { dialect, find } = this.#options
    // Who speaks structured may answer simply, to requests that bring no data.
    const isWanted = kind === dialect || (kind === 'simple' && dialect === 'structured')
    if (!isWanted) throw broken(`a reply with ${kind} headers nobody wanted`)
    const request = find(head.readUInt32BE(8), head.readUInt32BE(12))
    if (request === undefined) throw broken('a reply to a request nobody made')
    if (kind === 'simple') this.#simple(request, head.readUInt32BE(4))
    else if (kind === 'extended') this.#extended(request)
    else {
      this.#feed.expect(this.#length, () => this.#chunk(request, this.#length.readUInt32BE(0)))
    }
  }

  #extended(request: PendingRequest): void {
    if (numberIn(this.#head.subarray(16)) !== request.offset) {
      throw broken('a reply with the offset of another request')
    }
    this.#chunk(request, numberIn(this.#head.subarray(24)))
  }

  #simple(request: PendingRequest, errno: number): void {
    const { command, length } = request
    const isData = command === Command.READ || command === Command.BLOCK_STATUS
    if (isData && this.#options.dialect !== 'simple')
      throw broken('a simple reply to a structured request')
    if (request.isStarted) throw broken('a simple reply behind a chunk')
    if (errno !== 0) request.fail(new NbdServerError(errno))
    if (errno !== 0 || command !== Command.READ) {
      this.#done(request)
      return
    }
    this.#feed.expect(request.place(request.offset, length), () => this.#done(request))
  }

  #chunk(request: PendingRequest, length: number): void {
    const isDone = (this.#head.readUInt16BE(4) & CHUNK_DONE) !== 0
    const type = this.#head.readUInt16BE(6)
    const next = (): void => {
      if (isDone) this.#done(request)
      else this.start()
    }
    request.isStarted = true
    if (type === Chunk.NONE) {
      if (!isDone || length !== 0) throw broken('an empty chunk that is not the last')
      next()
    } else if (type === Chunk.OFFSET_DATA) this.#data(request, length, next)
    else if (type === Chunk.OFFSET_HOLE) this.#hole(request, length, next)
    else if (type === this.#statusType) this.#blockStatus(request, length, next)
    else if ((type & CHUNK_IS_ERROR) !== 0) this.#error(request, type, length, isDone, next)
    else throw broken(`a chunk of unknown type ${type}`)
  }

  #data(request: PendingRequest, length: number, next: () => void): void {
    if (request.command !== Command.READ) throw broken('data for a request that reads none')
    if (length <= 8) throw broken('a data chunk without data')
    const place = this.#place.subarray(0, 8)
    this.#feed.expect(place, () => {
      const target = request.place(numberIn(place), length - 8)
      this.#feed.expect(target, next)
    })
  }

  #hole(request: PendingRequest, length: number, next: () => void): void {
    if (request.command !== Command.READ) throw broken('a hole for a request that reads none')
    if (length !== 12) throw broken('a hole chunk with a wrong length')
    this.#feed.expect(this.#place, () => {
      const size = this.#place.readUInt32BE(8)
      if (size === 0) throw broken('an empty hole')
      request.place(numberIn(this.#place), size).fill(0)
      next()
    })
  }

  #blockStatus(request: PendingRequest, length: number, next: () => void): void {
    if (request.command !== Command.BLOCK_STATUS) throw broken('extents nobody asked for')
    StatusList.checkLength(length, this.#isExtended)
    const payload = Buffer.allocUnsafe(length)
    this.#feed.expect(payload, () => {
      request.addStatus(new StatusList(payload, this.#isExtended))
      next()
    })
  }

  #error(
    request: PendingRequest,
    type: number,
    length: number,
    isDone: boolean,
    next: () => void,
  ): void {
    if (length < 6 || length > MAX_ERROR) throw broken('an error chunk with a wrong length')
    if (type === Chunk.ERROR && !isDone) throw broken('an error chunk that is not the last')
    const payload = Buffer.allocUnsafe(length)
    this.#feed.expect(payload, () => {
      const { error, rest } = decodeErrorChunk(payload)
      if (type === Chunk.ERROR && rest.length > 0) throw broken('an error chunk is too long')
      if (type === Chunk.ERROR_OFFSET) {
        if (rest.length !== 8) throw broken('an error without its offset')
        request.checkWithin(numberIn(rest))
      }
      request.fail(error)
      next()
    })
  }

  get #statusType(): number {
    return this.#isExtended ? Chunk.BLOCK_STATUS_EXT : Chunk.BLOCK_STATUS
  }

  #done(request: PendingRequest): void {
    request.checkComplete()
    this.#options.finish(request)
    this.start()
  }
}

/** 64 bits. Rounded when it is larger than any image, which what is checked next refuses as well. */
function numberIn(bytes: Buffer): number {
  return bytes.readUInt32BE(0) * 2 ** 32 + bytes.readUInt32BE(4)
}

const REPLY_KINDS = new Map<number, Dialect>([
  [SIMPLE_REPLY_MAGIC, 'simple'],
  [STRUCTURED_REPLY_MAGIC, 'structured'],
  [EXTENDED_REPLY_MAGIC, 'extended'],
])
