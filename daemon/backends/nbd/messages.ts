/** Encoders, and decoders that accept what the protocol allows and nothing else. */
import { NbdProtocolError, NbdServerError } from './errors.js'
import {
  HAS_FLAGS,
  MAX_NAME,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  Command,
  DEFAULT_BLOCK_SIZES,
  EXTENDED_REQUEST_MAGIC,
  PAYLOAD_LENGTH,
  REQUEST_MAGIC,
} from './protocol.js'

/** How requests and replies look on the wire: decided once, by the handshake. */
export type Dialect = 'simple' | 'structured' | 'extended'

export interface Request {
  readonly command: number
  readonly flags: number
  readonly offset: number
  readonly length: number
}

export interface Cookie {
  readonly high: number
  readonly low: number
}

/** Without its payload. */
export function encodeRequest(request: Request, cookie: Cookie, dialect: Dialect): Buffer {
  const isExtended = dialect === 'extended'
  const bytes = Buffer.allocUnsafe(isExtended ? 32 : 28)
  // With extended headers a payload is told by the header, whatever the command.
  const hasPayload = isExtended && request.command === Command.WRITE
  bytes.writeUInt32BE(isExtended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC, 0)
  bytes.writeUInt16BE(request.flags | (hasPayload ? PAYLOAD_LENGTH : 0), 4)
  bytes.writeUInt16BE(request.command, 6)
  bytes.writeUInt32BE(cookie.high, 8)
  bytes.writeUInt32BE(cookie.low, 12)
  writeUInt64(bytes, request.offset, 16)
  if (isExtended) writeUInt64(bytes, request.length, 24)
  else bytes.writeUInt32BE(request.length, 24)
  return bytes
}

/** Of a safe integer, without the cost of a BigInt. */
function writeUInt64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / 2 ** 32), at)
  bytes.writeUInt32BE(value % 2 ** 32, at + 4)
}

export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.allocUnsafe(16)
  header.writeBigUInt64BE(OPTION_MAGIC, 0)
  header.writeUInt32BE(option, 8)
  header.writeUInt32BE(data.length, 12)
  return Buffer.concat([header, data])
}

/** Data of GO: which export, and what we want to be told of it. */
export function encodeGo(exportName: string, infos: readonly number[]): Buffer {
  return Buffer.concat([encodeText(exportName), uint16(infos.length), ...infos.map(uint16)])
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function encodeQueries(exportName: string, queries: readonly string[]): Buffer {
  return Buffer.concat([
    encodeText(exportName),
    uint32(queries.length),
    ...queries.map((query) => encodeText(query)),
  ])
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([uint32(bytes.length), bytes])
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export const OPTION_REPLY_SIZE = 20

/** Longest data of an option's answer: two names and some numbers. */
const MAX_OPTION_REPLY = 4 * MAX_NAME

export function decodeOptionReply(bytes: Buffer, option: number): { type: number; length: number } {
  if (bytes.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC) throw broken('a wrong magic in an option')
  if (bytes.readUInt32BE(8) !== option) throw broken('an answer to an option nobody asked for')
  const length = bytes.readUInt32BE(16)
  if (length > MAX_OPTION_REPLY) throw broken('the answer to an option is too long')
  return { type: bytes.readUInt32BE(12), length }
}

export interface ExportInfo {
  readonly size: number
  readonly flags: number
}

/** INFO of type EXPORT, with its type. */
export function decodeExport(data: Buffer): ExportInfo {
  if (data.length !== 12) throw broken('the size of an export has a wrong length')
  const size = data.readBigUInt64BE(2)
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw broken('the export is larger than any image')
  const flags = data.readUInt16BE(10)
  return { size: Number(size), flags: (flags & HAS_FLAGS) === 0 ? 0 : flags }
}

export interface BlockSizes {
  readonly minimum: number
  /** Of data in one request. */
  readonly maximum: number
}

const MAX_MINIMUM = 64 * 1024

/** INFO of type BLOCK_SIZE, with its type. */
export function decodeBlockSizes(data: Buffer): BlockSizes {
  if (data.length !== 14) throw broken('block sizes have a wrong length')
  const minimum = data.readUInt32BE(2)
  const maximum = data.readUInt32BE(10)
  const isPower = minimum > 0 && (minimum & (minimum - 1)) === 0
  if (!isPower || minimum > MAX_MINIMUM) throw broken(`a block size of ${minimum}`)
  if (maximum < minimum) throw broken('the largest request is smaller than a block')
  return { minimum, maximum: Math.min(maximum, DEFAULT_BLOCK_SIZES.maximum) }
}

export function decodeContext(data: Buffer): { id: number; name: string } {
  if (data.length < 5 || data.length > 4 + MAX_NAME) throw broken('a context has a wrong length')
  try {
    const name = new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(4))
    return { id: data.readUInt32BE(0), name }
  } catch {
    throw broken('the name of a context is no text')
  }
}

/** Payload of an error chunk; `hasOffset` is what the type says of its end. */
export function decodeErrorChunk(payload: Buffer): {
  error: NbdServerError
  rest: Buffer
} {
  if (payload.length < 6) throw broken('an error chunk is too short')
  const errno = payload.readUInt32BE(0)
  const end = 6 + payload.readUInt16BE(4)
  if (errno === 0) throw broken('an error chunk without an error')
  if (end > payload.length || end > 6 + MAX_NAME) throw broken('the text of an error is too long')
  const text = payload.toString('utf8', 6, end).replace(/\p{Cc}/gu, ' ')
  return { error: new NbdServerError(errno, text), rest: payload.subarray(end) }
}

export function broken(violation: string): NbdProtocolError {
  return new NbdProtocolError(violation)
}
