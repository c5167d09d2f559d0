/** From a connected socket to an export: fixed newstyle negotiation. */
import { BackendOpenError } from '../errors.js'
import { NbdServerError } from './errors.js'
import {
  broken,
  decodeBlockSizes,
  decodeContext,
  decodeExport,
  decodeOptionReply,
  encodeGo,
  encodeOption,
  encodeQueries,
  OPTION_REPLY_SIZE,
  type BlockSizes,
  type Dialect,
  type ExportInfo,
} from './messages.js'
import {
  DEFAULT_BLOCK_SIZES,
  FIXED_NEWSTYLE,
  Info,
  NBD_MAGIC,
  Option,
  OptionReply,
  OPTION_MAGIC,
} from './protocol.js'
import type { Transport } from './transport.js'

export const BASE_ALLOCATION = 'base:allocation'
export const ALLOCATION_DEPTH = 'qemu:allocation-depth'
const DIRTY_BITMAPS = 'qemu:dirty-bitmap:'

export interface HandshakeOptions {
  readonly exportName: string
  /** Look for a bitmap. */
  readonly dirty: boolean
  /** Encrypts the transport; only with nbds. */
  readonly startTls?: (() => Promise<void>) | undefined
}

export interface Negotiated extends ExportInfo {
  readonly blockSizes: BlockSizes
  readonly dialect: Dialect
  /** Granted contexts: name to id. */
  readonly contexts: ReadonlyMap<string, number>
  /** The context of the one bitmap there is. */
  readonly bitmap: string | undefined
}

interface Reply {
  readonly type: number
  readonly data: Buffer
}

/** Rejects with NbdProtocolError, BackendOpenError or what the transport failed with. */
export async function negotiate(
  transport: Transport,
  { exportName, dirty, startTls }: HandshakeOptions,
): Promise<Negotiated> {
  await greet(transport)
  const options = new Options(transport)
  if (startTls !== undefined) {
    if (!(await options.tryTo(Option.STARTTLS))) {
      throw new BackendOpenError('the NBD server offers no TLS')
    }
    await startTls()
  }
  const dialect = await agreeOnDialect(options)
  const { bitmap, contexts } =
    dialect === 'simple'
      ? { bitmap: undefined, contexts: new Map<string, number>() }
      : await agreeOnContexts(options, exportName, dirty)
  return { ...(await go(options, exportName)), dialect, contexts, bitmap }
}

/** Extended headers bring structured replies with them. */
async function agreeOnDialect(options: Options): Promise<Dialect> {
  if (await options.tryTo(Option.EXTENDED_HEADERS)) return 'extended'
  const isStructured = (await options.ask(Option.STRUCTURED_REPLY)) !== undefined
  return isStructured ? 'structured' : 'simple'
}

async function greet(transport: Transport): Promise<void> {
  const bytes = await transport.read(18)
  if (bytes.readBigUInt64BE(0) !== NBD_MAGIC) throw broken('this is no NBD server')
  if (bytes.readBigUInt64BE(8) !== OPTION_MAGIC) throw broken('it speaks oldstyle only')
  if ((bytes.readUInt16BE(16) & FIXED_NEWSTYLE) === 0) throw broken('it has no fixed newstyle')
  const flags = Buffer.alloc(4)
  flags.writeUInt32BE(FIXED_NEWSTYLE)
  transport.write(flags)
}

async function agreeOnContexts(
  options: Options,
  exportName: string,
  dirty: boolean,
): Promise<{ bitmap: string | undefined; contexts: Map<string, number> }> {
  const bitmap = dirty ? await findBitmap(options, exportName) : undefined
  const wanted = [BASE_ALLOCATION, ALLOCATION_DEPTH, ...(bitmap === undefined ? [] : [bitmap])]
  const replies = await options.ask(Option.SET_META_CONTEXT, encodeQueries(exportName, wanted))
  const contexts = new Map<string, number>()
  for (const { id, name } of contextsOf(replies ?? [])) {
    if (!wanted.includes(name)) throw broken('a context nobody asked for')
    if (contexts.has(name) || [...contexts.values()].includes(id)) throw broken('a context twice')
    contexts.set(name, id)
  }
  const hasBitmap = bitmap !== undefined && contexts.has(bitmap)
  return { bitmap: hasBitmap ? bitmap : undefined, contexts }
}

/** With several nobody knows which one is meant. */
async function findBitmap(options: Options, exportName: string): Promise<string | undefined> {
  const data = encodeQueries(exportName, [DIRTY_BITMAPS])
  const replies = await options.ask(Option.LIST_META_CONTEXT, data)
  const names = contextsOf(replies ?? []).map(({ name }) => name)
  const found = names.filter((name) => name.startsWith(DIRTY_BITMAPS))
  return found.length === 1 ? found[0] : undefined
}

function contextsOf(replies: readonly Reply[]): { id: number; name: string }[] {
  return replies.map(({ type, data }) => {
    if (type !== OptionReply.META_CONTEXT) throw broken('an answer that is no context')
    return decodeContext(data)
  })
}

/** Of data in one request: less is no way to move a disk. */
const MIN_MAXIMUM = 4096

async function go(
  options: Options,
  exportName: string,
): Promise<ExportInfo & { blockSizes: BlockSizes }> {
  let info: ExportInfo | undefined
  let blockSizes: BlockSizes = DEFAULT_BLOCK_SIZES
  for (const { type, data } of await options.require(
    Option.GO,
    encodeGo(exportName, [Info.BLOCK_SIZE]),
  )) {
    if (type !== OptionReply.INFO || data.length < 2) throw broken('an answer that tells nothing')
    const kind = data.readUInt16BE(0)
    if (kind === Info.EXPORT) info = decodeExport(data)
    if (kind === Info.BLOCK_SIZE) blockSizes = decodeBlockSizes(data)
  }
  if (info === undefined) throw broken('the export has no size')
  if (blockSizes.maximum < Math.min(MIN_MAXIMUM, info.size)) {
    throw new BackendOpenError(
      `the NBD server takes no more than ${blockSizes.maximum} bytes at a time`,
    )
  }
  return { ...info, blockSizes }
}

/** Answers to one option; a server has few contexts, and none has more bitmaps. */
const MAX_REPLIES = 1000

class Options {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** What came before ACK; undefined when the server doesn't know the option. */
  async ask(option: number, data?: Buffer): Promise<Reply[] | undefined> {
    this.#transport.write(encodeOption(option, data))
    const replies: Reply[] = []
    for (;;) {
      const header = decodeOptionReply(await this.#transport.read(OPTION_REPLY_SIZE), option)
      const reply = { type: header.type, data: await this.#transport.read(header.length) }
      if (reply.type === OptionReply.ERR_UNSUP) return undefined
      if (reply.type >= OptionReply.ERR_UNSUP) throw refusal(reply)
      if (reply.type === OptionReply.ACK) {
        if (reply.data.length > 0) throw broken('an ACK with data')
        return replies
      }
      replies.push(reply)
      if (replies.length > MAX_REPLIES) throw broken('endless answers to an option')
    }
  }

  /** Whether the server agrees. It may refuse for any reason: what is asked for is an extra. */
  async tryTo(option: number): Promise<boolean> {
    try {
      return (await this.ask(option)) !== undefined
    } catch (error) {
      if (error instanceof BackendOpenError) return false
      throw error
    }
  }

  async require(option: number, data?: Buffer): Promise<Reply[]> {
    const replies = await this.ask(option, data)
    if (replies !== undefined) return replies
    throw new BackendOpenError('the NBD server has no way to choose an export')
  }
}

const REASONS = new Map<number, string>([
  [OptionReply.ERR_POLICY, 'the NBD server does not allow it'],
  [OptionReply.ERR_TLS_REQD, 'the NBD server wants TLS (nbds)'],
  [OptionReply.ERR_UNKNOWN, 'the NBD server has no such export'],
  [OptionReply.ERR_SHUTDOWN, 'the NBD server is shutting down'],
  [OptionReply.ERR_EXT_HEADER_REQD, 'the NBD server wants extended headers, but refuses them'],
])

function refusal({ type, data }: Reply): BackendOpenError {
  const text = data.toString('utf8').replace(/\p{Cc}/gu, ' ')
  const cause = new NbdServerError(type, text)
  return new BackendOpenError(REASONS.get(type) ?? 'the NBD server refused an option', { cause })
}
