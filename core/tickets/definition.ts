/** What a ticket says: the JSON of PUT /tickets/{id}, checked (control-api.md, 2). */
import { TicketInvalidError } from './errors.js'
import { MAX_RANGES, type ByteRange } from './unfinished.js'

export type TicketOp = 'read' | 'write'

export interface TicketDefinition {
  /** The secret in the URL. */
  readonly id: string
  /** Bytes that may be accessed, as given: exact up to 2^64. */
  readonly size: number | bigint
  readonly ops: readonly TicketOp[]
  /** Seconds; renewed by each operation. */
  readonly timeout: number
  /** Seconds a client may be silent. */
  readonly inactivityTimeout: number
  readonly url: string
  readonly transferId: string
  /** For downloads by browsers. */
  readonly filename: string | undefined
  /** Zeroing may deallocate. */
  readonly sparse: boolean
  /** The first change empties the image before: what is written is all of a new one. */
  readonly replaces: boolean
  /** Under a ticket that was lost this was announced, and not written: see Unfinished. */
  readonly missing: readonly ByteRange[]
  /** Dirty extents are wanted. */
  readonly dirty: boolean
  /** Bytes of the image per second, in both directions together; 0 is no limit. */
  readonly maxBytesPerSecond: number
}

export interface DefinitionOptions {
  /** Seconds, for tickets without their own. */
  readonly inactivityTimeout: number
  /** The URL in its normal form; throws an Error that says what is wrong with it. */
  readonly normalizeUrl: (url: string) => string
}

/** Characters of the id in a transfer id we make up ourselves. */
export const TRANSFER_ID_LENGTH = 18
const MAX_SIZE = 2n ** 64n
/** Seconds; the engine holds times in 31 bits. */
const MAX_TIMEOUT = 2 ** 31 - 1
const RATE = 'max_bytes_per_second'

/** Throws TicketInvalidError. */
export function parseDefinition(json: unknown, options: DefinitionOptions): TicketDefinition {
  const fields = new Fields(json)
  const id = fields.text('uuid')
  if (id === '') throw new TicketInvalidError('uuid is empty')
  const size = fields.required('size')
  if (!isInteger(size) || size < 0 || size > MAX_SIZE) {
    throw new TicketInvalidError('size must be an integer from 0 to 2^64')
  }
  return {
    id,
    size,
    ops: parseOps(fields.required('ops')),
    timeout: fields.seconds('timeout', 0),
    inactivityTimeout: fields.has('inactivity_timeout')
      ? fields.seconds('inactivity_timeout', 1)
      : options.inactivityTimeout,
    url: normalize(fields.text('url'), options),
    transferId: fields.has('transfer_id')
      ? fields.text('transfer_id')
      : `(ticket/${id.slice(0, TRANSFER_ID_LENGTH)})`,
    filename: fields.has('filename') ? parseFilename(fields.text('filename')) : undefined,
    sparse: fields.has('sparse') && fields.flag('sparse'),
    missing: fields.has('missing') ? parseRanges(fields.required('missing')) : [],
    replaces: fields.has('replace') && fields.flag('replace'),
    dirty: fields.has('dirty') && fields.flag('dirty'),
    maxBytesPerSecond: fields.has(RATE) ? fields.rate(RATE) : 0,
  }
}

/** What PATCH /tickets/{id} changes; what is undefined stays. */
export interface TicketChange {
  /** Seconds from now. */
  readonly timeout: number | undefined
  readonly maxBytesPerSecond: number | undefined
}

/** Throws TicketInvalidError. */
export function parseChange(json: unknown): TicketChange {
  const fields = new Fields(json)
  const maxBytesPerSecond = fields.has(RATE) ? fields.rate(RATE) : undefined
  if (!fields.has('timeout') && maxBytesPerSecond === undefined) {
    throw new TicketInvalidError(`neither timeout nor ${RATE} is given`)
  }
  const isRateOnly = maxBytesPerSecond !== undefined && !fields.has('timeout')
  return { timeout: isRateOnly ? undefined : fields.seconds('timeout', 0), maxBytesPerSecond }
}

class Fields {
  readonly #members: Map<string, unknown>

  constructor(json: unknown) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) {
      throw new TicketInvalidError('the body is not a JSON object')
    }
    this.#members = new Map(Object.entries(json))
  }

  has(key: string): boolean {
    return this.#members.has(key)
  }

  required(key: string): unknown {
    if (!this.has(key)) throw new TicketInvalidError(`${key} is missing`)
    return this.#members.get(key)
  }

  text(key: string): string {
    const value = this.required(key)
    if (typeof value === 'string') return value
    throw new TicketInvalidError(`${key} must be a string`)
  }

  flag(key: string): boolean {
    const value = this.required(key)
    if (typeof value === 'boolean') return value
    throw new TicketInvalidError(`${key} must be true or false`)
  }

  seconds(key: string, min: number): number {
    const value = this.required(key)
    if (isInteger(value) && value >= min) return Number(value > MAX_TIMEOUT ? MAX_TIMEOUT : value)
    throw new TicketInvalidError(`${key} must be an integer of at least ${min} seconds`)
  }

  rate(key: string): number {
    const value = this.required(key)
    if (isInteger(value) && value >= 0) return Math.min(Number(value), Number.MAX_SAFE_INTEGER)
    throw new TicketInvalidError(`${key} must be an integer of at least 0, which is no limit`)
  }
}

function isInteger(value: unknown): value is number | bigint {
  return typeof value === 'bigint' || Number.isInteger(value)
}

function parseRanges(value: unknown): ByteRange[] {
  const isOffset = (one: unknown): one is number => Number.isSafeInteger(one) && Number(one) >= 0
  if (Array.isArray(value) && value.length <= MAX_RANGES) {
    const ranges = value.filter(
      (one: unknown): one is ByteRange =>
        Array.isArray(one) && one.length === 2 && one.every(isOffset),
    )
    if (ranges.length === value.length) return ranges
  }
  throw new TicketInvalidError(`missing must be up to ${MAX_RANGES} pairs of offset and size`)
}

function parseOps(value: unknown): TicketOp[] {
  if (!Array.isArray(value)) throw new TicketInvalidError('ops must be a list')
  return value.map((op: unknown) => {
    if (op === 'read' || op === 'write') return op
    throw new TicketInvalidError('ops may hold "read" and "write"')
  })
}

/** Control characters could end a header field. */
function parseFilename(name: string): string | undefined {
  if (/\p{Cc}/u.test(name)) throw new TicketInvalidError('filename has control characters')
  return name === '' ? undefined : name.toWellFormed()
}

function normalize(url: string, options: DefinitionOptions): string {
  try {
    return options.normalizeUrl(url)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : 'cannot be used'
    throw new TicketInvalidError(`url: ${reason}`, { cause })
  }
}
